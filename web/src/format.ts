/** Numbers, units, times and names as the page writes them. */

export const NB = '\u202f';

const two = (n: number): string => String(n).padStart(2, '0');

/** Two or three digits, never more than is known. */
export function num(v: number | null | undefined): string {
  if (v == null || !Number.isFinite(v)) return '–';
  const a = Math.abs(v);
  if (a >= 1e9) return (v / 1e9).toFixed(a >= 1e10 ? 0 : 1) + NB + 'G';
  if (a >= 1e6) return (v / 1e6).toFixed(a >= 1e7 ? 0 : 1) + NB + 'M';
  if (a >= 1e4) return Math.round(v / 1e3) + NB + 'k';
  if (a >= 1e3) return (v / 1e3).toFixed(1) + NB + 'k';
  if (a >= 100) return v.toFixed(0);
  if (a >= 1) return trim(v.toFixed(1));
  if (a === 0) return '0';
  if (a >= 0.01) return trim(v.toFixed(2));
  return trim(v.toPrecision(1));
}

const trim = (s: string): string => (s.includes('.') && !s.includes('e') ? s.replace(/\.?0+$/, '') || '0' : s);

const TIMES: [number, number, string][] = [
  [172800, 86400, 'days'],
  [7200, 3600, 'h'],
  [120, 60, 'min'],
  [1, 1, 's'],
  [1e-3, 1e-3, 'ms'],
  [1e-6, 1e-6, 'µs'],
];
const SECONDS: Record<string, number> = { s: 1, ms: 1e-3, us: 1e-6, ns: 1e-9, min: 60, h: 3600 };

/** Whether a series is a share of a whole, which reads best as per cent. */
export const isShare = (unit: string, feature = ''): boolean => unit === '1' && /ratio|utilization/.test(feature);

/** By what a value is divided and how it is called then. `like` is the largest that it stands beside. */
export function scale(unit: string, feature: string, like: number): { factor: number; suffix: string } {
  const a = Math.abs(like);
  if (isShare(unit, feature)) return { factor: 0.01, suffix: NB + '%' };
  if (unit in SECONDS) {
    const own = SECONDS[unit]!;
    const found = TIMES.find(([from]) => a * own >= from) ?? TIMES[TIMES.length - 1]!;
    return { factor: found[1] / own, suffix: NB + (a === 0 ? 's' : found[2]) };
  }
  if (unit === 'By' || unit === 'By/s') {
    const [factor, name] = a >= 1e9 ? [1e9, 'GB'] : a >= 1e6 ? [1e6, 'MB'] : a >= 1e3 ? [1e3, 'kB'] : [1, 'B'];
    return { factor: factor as number, suffix: NB + name + unit.slice(2) };
  }
  if (unit === '1/s') return { factor: 1, suffix: '/s' };
  if (unit === '%') return { factor: 1, suffix: NB + '%' };
  if (!unit || unit === '1' || /^\{.*\}$/.test(unit)) return { factor: 1, suffix: '' };
  if (/^\{.*\}\/s$/.test(unit)) return { factor: 1, suffix: '/s' };
  return { factor: 1, suffix: NB + unit };
}

export function quantity(v: number | null | undefined, unit = '', feature = ''): string {
  if (v == null || !Number.isFinite(v)) return 'missing';
  const { factor, suffix } = scale(unit, feature, v);
  return num(v / factor) + suffix;
}

/** What would have been usual: "6 to 11", "at most 4 ms". */
export function span(from: number | null, to: number | null, unit = '', feature = ''): string {
  // What is a share of a whole is not expected below nothing or above all of it.
  const share = isShare(unit, feature);
  const low = share && from !== null ? Math.max(0, from) : from;
  const high = share && to !== null ? Math.min(1, to) : to;
  const has = (v: number | null): v is number => v != null && Number.isFinite(v);
  if (has(low) && has(high)) {
    const { factor, suffix } = scale(unit, feature, Math.max(Math.abs(low), Math.abs(high)));
    const [a, b] = [num(low / factor), num(high / factor)];
    return a === b ? b + suffix : `${a} to ${b}${suffix}`;
  }
  if (has(high)) return 'at most ' + quantity(high, unit, feature);
  if (has(low)) return 'at least ' + quantity(low, unit, feature);
  return 'not known yet';
}

export function clock(ms: number, seconds = true): string {
  const d = new Date(ms);
  return `${two(d.getHours())}:${two(d.getMinutes())}${seconds ? ':' + two(d.getSeconds()) : ''}`;
}

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

/** A time of day, with the day where it is not today. */
export function moment(ms: number, seconds = true, now = Date.now()): string {
  const d = new Date(ms);
  const today = new Date(now).toDateString() === d.toDateString();
  return (today ? '' : `${d.getDate()} ${MONTHS[d.getMonth()]} `) + clock(ms, seconds);
}

/** How many times its bar a score is; what is next to nothing is 0. */
export const times = (ratio: number | null | undefined): string => (ratio != null && Math.abs(ratio) < 0.005 ? '0' : num(ratio)) + NB + '×';

export const utc = (ms: number): string => new Date(ms).toISOString().slice(0, 19).replace('T', ' ') + ' UTC';

/** "15 min 44 s", "2 h 5 min". */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s}${NB}s`;
  if (s < 3600) return `${Math.floor(s / 60)}${NB}min` + (s % 60 ? ` ${s % 60}${NB}s` : '');
  if (s < 172800) {
    const minutes = Math.floor((s % 3600) / 60);
    return `${Math.floor(s / 3600)}${NB}h` + (minutes ? ` ${minutes}${NB}min` : '');
  }
  return `${Math.round(s / 86400)}${NB}days`;
}

/** One and many. */
export const count = (n: number, one: string, many = one + 's'): string => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;

/** An entity by the name that people call it. */
export function entityName(labels: Record<string, string>): string {
  const { client, server } = labels;
  if (client && server) return `${client} → ${server}`;
  for (const key of ['service.name', 'service_name', 'host.name', 'host_name']) if (labels[key]) return labels[key]!;
  const environment = labels['deployment.environment.name'] ?? labels['deployment_environment_name'];
  if (environment) return 'all calls';
  return Object.values(labels).join(', ') || 'everything';
}

/** The labels of canonical text such as `{host.name="a1"}`. */
export function labelsOf(text: string): Record<string, string> {
  const out: Record<string, string> = {};
  for (const m of text.matchAll(/([^=,{}"\s]+)="((?:[^"\\]|\\.)*)"/g))
    out[m[1]!] = m[2]!.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
  return out;
}

const OWN = new Set(['alertname', 'severity', 'feature']);

/** The entity that an alert names. */
export const alertEntity = (labels: Record<string, string>): string =>
  entityName(Object.fromEntries(Object.entries(labels).filter(([name]) => !OWN.has(name))));

const NAMES: Record<string, string> = {
  'calls.rate': 'request rate',
  'calls.error_ratio': 'error ratio',
  'calls.no_answer_ratio': 'share without answer',
  'calls.duration.p50': 'latency p50',
  'calls.duration.p95': 'latency p95',
  'calls.duration.p99': 'latency p99',
  'calls.endpoint_mix.distance': 'change in endpoints',
  'calls.edge_mix.distance': 'change in calls',
  'calls.endpoint.rate': 'rate of',
  'calls.status_ratio': 'share of',
  'container.cpu.utilization': 'CPU',
  'container.memory.usage': 'memory',
  'container.filesystem.usage': 'disk',
  'service.queue.length': 'queue length',
  'service.replicas.ready': 'ready replicas',
  'service.restarts': 'restarts',
  'http.server.active_requests': 'requests in flight',
  'db.client.connections.usage': 'pool in use',
  'db.client.connections.pending_requests': 'waits for a connection',
  'system.cpu.utilization': 'CPU',
  'system.memory.utilization': 'memory',
  'system.filesystem.utilization': 'disk',
};

/** A feature in words. */
export function featureName(feature: string | undefined): string {
  if (!feature) return 'all features together';
  const at = feature.indexOf('{');
  const name = at < 0 ? feature : feature.slice(0, at);
  const values = at < 0 ? [] : Object.values(labelsOf(feature.slice(at)));
  const said = NAMES[name] ?? name.replace(/^(system|calls)\./, '').replace(/[._]+/g, ' ');
  if (!values.length) return said;
  return said.endsWith(' of') ? `${said} ${values.join(', ')}` : `${said}, ${values.join(', ')}`;
}

/** Where a number starts from: rates, shares, times and counts from 0. */
export const fromZero = (unit: string): boolean => unit !== 'Cel';

/** "payment fails 41 % of requests", "payment’s latency p95 is 2.9 s": who, what, how much; `far` = how far it went. */
export function said(labels: Record<string, string>, value: string, past: boolean, far: '' | 'up' | 'down' = ''): string {
  const feature = labels['feature'] ?? '';
  const { client, server } = labels;
  const between = client && server ? `calls from ${client} to ${server}` : '';
  const who = between || alertEntity(labels);
  const first = { '': '', up: 'Up to ', down: 'Only ' }[far];
  const inside = { '': '', up: 'up to ', down: 'down to ' }[far];
  if (feature === 'calls.error_ratio') {
    if (between) return `${first}${value} of ${between} ${past ? 'failed' : 'fail'}`;
    return `${who} ${past ? 'failed' : 'fails'} ${inside}${value} of requests`;
  }
  const answers = /^calls\.status_ratio\{class="(\dxx)"\}$/.exec(feature);
  if (answers) return `${first}${value} of ${between ? 'answers to ' + between : who + '’s answers'} ${past ? 'were' : 'are'} ${answers[1]}`;
  const what = between ? `${featureName(feature)} of ${between}` : `${who}’s ${featureName(feature)}`;
  return `${what} ${past ? 'was' : 'is'} ${inside}${value}`;
}

const DETECTORS: Record<string, string> = {
  deviation: 'Deviation', linear: 'Joint forecast', robust_z: 'Robust z', zscore: 'z-score', seasonal: 'Seasonal', pca: 'Principal components',
  half_space_trees: 'Half-space trees', isolation_forest: 'Isolation forest', rate_of_change: 'Rate of change', static_threshold: 'Your limit', stuck: 'Stuck', noise: 'Noise',
};
/** A detector by the name that people call it, where it bears that of its type. */
export const detectorName = (name: string): string => DETECTORS[name] ?? name;
