/** Ranges of time that a chart shows, and what is asked of the server for them. All times are Unix seconds. */

import type { Chart, ChartPoints } from './types';

export type Range = [number, number];

export const PRESETS: [string, string][] = [
  ['900', '15 min'], ['3600', '1 h'], ['21600', '6 h'], ['86400', '24 h'], ['604800', '7 days'], ['2592000', '30 days'],
];

/** Nothing is shown closer than this. */
export const CLOSEST = 10;

/** The range within the bounds, moved rather than cut where it can be. */
export function within([from, to]: Range, [first, last]: Range): Range {
  const span = Math.min(Math.max(to - from, CLOSEST), Math.max(last - first, CLOSEST));
  const middle = (from + to) / 2;
  const start = Math.max(first, Math.min(middle - span / 2, last - span));
  return [start, start + span];
}

/** Closer by `factor` (< 1) or further away, with what stands at `at` staying where it is. */
export function zoomed([from, to]: Range, at: number, factor: number): Range {
  const span = Math.max(CLOSEST, (to - from) * factor);
  const share = to > from ? (at - from) / (to - from) : 0.5;
  return [at - share * span, at + (1 - share) * span];
}

/** Moved by a share of itself: 0.25 = a quarter to the right. */
export const moved = ([from, to]: Range, share: number): Range => [from + share * (to - from), to + share * (to - from)];

/**
 * What is asked for: the range with half of itself to both sides, so that moving shows something at once, on a grid, so
 * that small moves ask for the same.
 */
export function tile([from, to]: Range): Range {
  const span = to - from;
  const step = 2 ** Math.ceil(Math.log2(Math.max(span, CLOSEST) / 4));
  return [Math.floor((from - span / 2) / step) * step, Math.ceil((to + span / 2) / step) * step];
}

const ROWS = ['value', 'least', 'most', 'expected', 'low', 'high', 'anomalous', 'status'] as const;

/** The indices of a list that begin a new bucket. */
function starts(times: number[], width: number): number[] {
  if (!width) return times.map((_, i) => i);
  return times.flatMap((t, i) => (i === 0 || Math.floor(t / width) !== Math.floor(times[i - 1]! / width) ? [i] : []));
}

const known = (values: (number | null)[]): number[] => values.filter((v): v is number => v !== null && Number.isFinite(v));
const mean = (values: (number | null)[]): number | null => {
  const found = known(values);
  return found.length ? found.reduce((a, b) => a + b, 0) / found.length : null;
};
const extreme = (values: (number | null)[], of: (...v: number[]) => number): number | null => {
  const found = known(values);
  return found.length ? of(...found) : null;
};

/** An answer with the newest points behind it, in buckets as long as its own. */
export function withTail(chart: Chart, live: Chart | undefined): Chart {
  const t = live?.points.time_unix_seconds ?? [];
  const last = chart.points.time_unix_seconds.at(-1);
  const wide = chart.bucket_seconds;
  const from = last === undefined ? 0 : t.findIndex((at) => (wide ? at >= last + wide - 1e-6 : at > last + 1e-6));
  if (!live || from < 0 || !t.length) return chart;
  // What lies between an answer about the past and what is live was not asked for: it is not missing.
  if (last !== undefined && t[0]! > last + 3 * Math.max(60, wide)) return chart;
  const times = t.slice(from);
  const at = starts(times, wide);
  const cut = <T>(values: T[], i: number): T[] => values.slice(from + at[i]!, from + (at[i + 1] ?? times.length));
  const each = <T>(of: (i: number) => T): T[] => at.map((_, i) => of(i));
  const { points } = live;
  const tail: Omit<ChartPoints, 'time_unix_seconds'> = {
    value: each((i) => mean(cut(points.value, i))),
    least: each((i) => extreme(cut(points.least, i), Math.min)),
    most: each((i) => extreme(cut(points.most, i), Math.max)),
    expected: each((i) => mean(cut(points.expected, i))),
    low: each((i) => mean(cut(points.low, i))),
    high: each((i) => mean(cut(points.high, i))),
    anomalous: each((i) => cut(points.anomalous, i).some(Boolean)),
    status: each((i) => (cut(points.status, i).includes('scored') ? 'scored' : points.status[from + at[i]!]!)),
  };
  const out: Record<string, unknown> = { time_unix_seconds: [...chart.points.time_unix_seconds, ...at.map((i) => (wide ? Math.floor(times[i]! / wide) * wide : times[i]!))] };
  for (const name of ROWS) out[name] = [...chart.points[name], ...tail[name]];
  const said = new Map(live.detectors.map((one) => [one.detector, one]));
  return {
    ...chart,
    points: out as ChartPoints,
    detectors: chart.detectors.map((one) => {
      const more = said.get(one.detector);
      return {
        ...one,
        ratio: [...one.ratio, ...each((i) => (more ? extreme(cut(more.ratio, i), Math.max) : null))],
        p_value: [...one.p_value, ...each((i) => (more ? extreme(cut(more.p_value, i), Math.min) : null))],
      };
    }),
  };
}

/** How far apart the points of an answer are in each of its parts (s): further apart is a gap. */
function paces(chart: Chart): (t: number) => number {
  const t = chart.points.time_unix_seconds;
  const parts = chart.parts.length ? chart.parts : [{ from_unix_seconds: -Infinity, kept_seconds: 0 }];
  const found = parts.map((part, k) => {
    const end = parts[k + 1]?.from_unix_seconds ?? Infinity;
    const steps: number[] = [];
    for (let i = 1; i < t.length; i++) if (t[i - 1]! >= part.from_unix_seconds && t[i]! < end) steps.push(t[i]! - t[i - 1]!);
    steps.sort((a, b) => a - b);
    return Math.max(part.kept_seconds, chart.bucket_seconds, steps[steps.length >> 1] ?? 0);
  });
  return (at) => {
    let k = 0;
    while (k + 1 < parts.length && parts[k + 1]!.from_unix_seconds <= at) k++;
    return found[k]!;
  };
}

/** The answer with a missing point where points are further apart than they should be: nothing is joined over a gap. */
export function withGaps(chart: Chart): Chart {
  const t = chart.points.time_unix_seconds;
  const pace = paces(chart);
  const at: number[] = [];
  for (let i = 1; i < t.length; i++) if (t[i]! - t[i - 1]! > 2.5 * Math.max(pace(t[i - 1]!), pace(t[i]!))) at.push(i);
  if (!at.length) return chart;
  const put = <T>(values: T[], what: (i: number) => T): T[] => {
    const out: T[] = [];
    let from = 0;
    for (const i of at) {
      for (; from < i; from++) out.push(values[from]!);
      out.push(what(i));
    }
    for (; from < values.length; from++) out.push(values[from]!);
    return out;
  };
  const nothing = (): null => null;
  const p = chart.points;
  return {
    ...chart,
    points: {
      time_unix_seconds: put(t, (i) => t[i - 1]! + pace(t[i - 1]!)),
      value: put(p.value, nothing), least: put(p.least, nothing), most: put(p.most, nothing),
      expected: put(p.expected, nothing), low: put(p.low, nothing), high: put(p.high, nothing),
      anomalous: put(p.anomalous, () => false), status: put(p.status, () => 'missing' as const),
    },
    detectors: chart.detectors.map((one) => ({ ...one, ratio: put(one.ratio, nothing), p_value: put(one.p_value, nothing) })),
  };
}

/** Stretches of anomalous points, as times. */
export function anomalies(points: ChartPoints, width: number): Range[] {
  const out: Range[] = [];
  const t = points.time_unix_seconds;
  points.anomalous.forEach((hot, i) => {
    if (!hot) return;
    const end = Math.min(t[i + 1] ?? t[i]! + width, t[i]! + Math.max(width, (t[i + 1] ?? t[i]!) - t[i]!));
    const last = out.at(-1);
    if (last && i > 0 && points.anomalous[i - 1]) last[1] = end;
    else out.push([t[i]!, end]);
  });
  return out;
}

/** The last point that a range shows; null where it shows none. */
export function lastShown(times: number[], range: Range): number | null {
  for (let i = times.length - 1; i >= 0; i--) if (times[i]! <= range[1]) return times[i]! >= range[0] ? i : null;
  return null;
}

/** Of what an answer is made, in words. */
export function madeOf(chart: Chart, long: (seconds: number) => string): string {
  if (chart.bucket_seconds) return `Each point stands for ${long(chart.bucket_seconds)}: its mean, and behind it the least and the most.`;
  const kept = [...new Set(chart.parts.map((one) => one.kept_seconds))].sort((a, b) => b - a);
  if (!kept.some((one) => one > 0)) return 'Every point as it came.';
  const says = kept.map((one) => (one ? `by ${long(one)}` : 'point by point'));
  return `Kept ${says.join(', then ')}.`;
}
