import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { act, cleanup, fireEvent, render, screen, waitFor } from '@testing-library/react';
import type { ReactElement } from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { nice, stretches, yRange } from './chart';
import { extend, LiveLink, type NewPoints } from './live';
import { fold, layers } from './map';
import { AlertRow } from './parts';
import { AlertPage } from './pages/alert';
import { contributions, scientific } from './pages/alert/why';
import { scorePoints } from './pages/explore';
import { joinStrip } from './queries';
import { parse } from './router';
import { headline, inOrder, pageState } from './state';
import { markFor, sortRows } from './strip';
import type { AlertState, ChartPoints, Standing, StripRow } from './types';

const START = Date.parse('2026-03-02T17:40:00Z');

export function alertOf(change: { kind?: AlertState['foreshock']['kind']; notified?: boolean; strength?: number; service?: string; resolved?: boolean } = {}): AlertState {
  const { kind = 'anomaly', notified = true, strength = 2, service = 'payment', resolved = false } = change;
  return {
    status: resolved ? 'resolved' : 'firing',
    labels: { alertname: 'ForeshockAnomaly', severity: 'critical', feature: 'calls.error_ratio', service_name: service },
    annotations: { summary: 'error ratio of payment is 0.41', description: 'More.', observed: '0.41', expected_low: '0', expected_high: '0.01', unit: '1', detector: 'deviation', contributions: 'calls.error_ratio=93 %, calls.rate=7 %' },
    startsAt: new Date(START).toISOString(),
    endsAt: resolved ? new Date(START + 65_000).toISOString() : '0001-01-01T00:00:00Z',
    generatorURL: '',
    fingerprint: '',
    foreshock: { episode: `e-${service}-${kind}-${notified}`, kind, strength, notified, group: '', decidedAt: new Date(START + 5000).toISOString() },
  };
}

const standing = (change: Partial<Standing> = {}): Standing => ({
  environment: 'shop', now_unix_seconds: START / 1000, watermark_unix_seconds: null, silent_seconds: 1, not_ready: [], demo: true, entities: 12, series: 100, series_not_viewed: 0, open_alerts: 0, ...change,
});

const points = (values: (number | null)[], from = 0): ChartPoints => ({
  time_unix_seconds: values.map((_, i) => from + i * 5), value: values, least: values, most: values, expected: values.map(() => 1), low: values.map(() => 0), high: values.map(() => 2), anomalous: values.map(() => false), status: values.map(() => 'scored'),
});

const answers: Record<string, unknown> = {};
const posted: { path: string; body: unknown }[] = [];

beforeEach(() => {
  for (const key of Object.keys(answers)) delete answers[key];
  posted.length = 0;
  vi.stubGlobal('fetch', (url: URL, init: RequestInit) => {
    if (init.method === 'POST') posted.push({ path: url.pathname, body: JSON.parse(String(init.body)) });
    const found = init.method === 'POST' ? { controls: [] } : answers[url.pathname];
    return Promise.resolve(new Response(JSON.stringify(found ?? { title: 'Not Found', detail: 'there is none' }), { status: found ? 200 : 404 }));
  });
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

const shown = (element: ReactElement): void => {
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  render(<QueryClientProvider client={client}>{element}</QueryClientProvider>);
};

describe('the state of the page', () => {
  const live = (change: Partial<LiveLink['state']> = {}): LiveLink['state'] => ({ link: 'live', lostAt: 0, retryAt: 0, healed: 0, standing: standing(), entities: new Map([['a', ['a', 'scored', 0.2, 0, 3]]]), skipped: 0, ...change });
  it('says what is known, and never more', () => {
    expect(pageState(live(), [])).toBe('quiet');
    expect(pageState(live(), undefined)).toBe('loading');
    expect(pageState(live({ standing: null }), [])).toBe('loading');
    expect(pageState(live({ link: 'lost' }), [alertOf()])).toBe('disconnected');
    expect(pageState(live({ standing: standing({ entities: 0 }) }), [])).toBe('empty');
    expect(pageState(live({ standing: standing({ silent_seconds: 300 }) }), [alertOf()])).toBe('stale');
    expect(pageState(live(), [alertOf()])).toBe('firing');
    expect(pageState(live(), [alertOf({ notified: false })])).toBe('small');
    expect(pageState(live(), [alertOf({ notified: false, kind: 'change' })])).toBe('quiet');
    expect(pageState(live({ entities: new Map([['a', ['a', 'warming_up', null, 0, 3]]]) }), [])).toBe('learning');
  });

  it('is about the alert that stands out most', () => {
    const all = [alertOf({ service: 'gateway', strength: 1 }), alertOf({ strength: 3 }), alertOf({ service: 'cart', strength: 9, notified: false })];
    expect(headline(all)?.labels['service_name']).toBe('payment');
    expect(headline([all[2]!])).toBeUndefined();
    const { loud, small } = inOrder(all);
    expect([loud.length, small.length]).toEqual([2, 1]);
  });
});

describe('an alert', () => {
  it('is a row with observed, expected and since', () => {
    shown(<AlertRow alert={alertOf()} sparks={false} />);
    expect(screen.getByText('payment')).toBeTruthy();
    expect(screen.getByText(/41/).textContent?.replace(/\u202f/g, ' ')).toBe('41 %');
    expect(screen.getByRole('img', { name: 'announced' })).toBeTruthy();
    expect(screen.getByRole('link').getAttribute('href')).toBe('#/alert/e-payment-anomaly-true');
  });

  it('that was not announced has a mark of its own', () => {
    shown(<AlertRow alert={alertOf({ notified: false })} sparks={false} />);
    expect(screen.getByRole('img', { name: 'not announced' })).toBeTruthy();
  });

  it('tells its story, and is labelled and unlabelled', async () => {
    answers['/api/v1/alerts/e'] = alertOf();
    answers['/api/v1/control'] = { controls: [] };
    answers['/api/v1/alerts'] = { alerts: [], next: null };
    answers['/api/v1/series'] = { series: [], next: null, not_viewed: 0 };
    shown(<AlertPage episode="e" />);
    await waitFor(() => screen.getByText('error ratio of payment is 0.41'));
    expect(screen.getByText('firing')).toBeTruthy();
    expect(screen.getByText(/93/)).toBeTruthy();
    const { live } = await import('./live');
    act(() => {
      live.state = { ...live.state, link: 'live' };
      (live as unknown as { set: (c: object) => void }).set({});
    });
    fireEvent.click(screen.getByRole('button', { name: /^Real/ }));
    await waitFor(() => expect(screen.getByRole('button', { name: /^Real/ }).getAttribute('aria-pressed')).toBe('true'));
    fireEvent.click(screen.getByRole('button', { name: /^Real/ }));
    await waitFor(() => expect(posted.map((one) => one.body)).toEqual([{ label: 'true' }, { label: 'none' }]));
    expect(posted[0]!.path).toBe('/api/v1/alerts/e-payment-anomaly-true/label');
  });

  it('says its story in the words and times of the page', async () => {
    const alert = alertOf();
    answers['/api/v1/alerts/e'] = { ...alert, annotations: { ...alert.annotations, direction: 'above', detector: 'deviation', p_value: '5e-06' } };
    answers['/api/v1/control'] = { controls: [] };
    answers['/api/v1/alerts'] = { alerts: [], next: null };
    answers['/api/v1/series'] = { series: [], next: null, not_viewed: 0 };
    shown(<AlertPage episode="e" />);
    const said = await waitFor(() => screen.getByText(/left what is usual/));
    expect(said.textContent?.replace(/\u202f/g, ' ')).toMatch(/At .*\d\d:\d\d:\d\d, payment/);
    expect(screen.getByText(/Deviation found it/).textContent).toContain('5 × 10⁻⁶');
    expect(screen.getByText('The text that is sent')).toBeTruthy();
  });

  it('that is not there says so', async () => {
    shown(<AlertPage episode="gone" />);
    await waitFor(() => screen.getByRole('alert'));
    expect(screen.getByRole('alert').textContent).toContain('not here');
  });

  it('reads its contributions and writes small numbers', () => {
    expect(contributions('db.client.connections.usage{pool="a, b"}=60 %, calls.rate=7 %').map((one) => one.share)).toEqual([60, 7]);
    expect(contributions(undefined)).toEqual([]);
    expect([0.06, 2.4e-5, 0].map(scientific)).toEqual(['0.06', '2 × 10⁻⁵', 'under 10⁻⁹']);
  });
});

describe('charts', () => {
  it('begin at 0 and end at a round number', () => {
    expect([0.93, 11, 24.1, 0].map(nice)).toEqual([1, 12, 25, 1]);
  });

  it('show what is not known as stretches', () => {
    const p = points([1, null, null, 1, 1]);
    p.status[3] = 'excluded';
    expect(stretches(p)).toEqual([
      { kind: 'missing', from: 5, to: 15 },
      { kind: 'excluded', from: 15, to: 20 },
    ]);
  });

  it('grow by what is new, and by nothing twice', () => {
    const more = (from: number, values: number[]): NewPoints => ({
      entity: 'e', feature: 'f', time_unix_seconds: values.map((_, i) => from + i * 5), value: values, expected: values, low: values, high: values, anomalous: values.map(() => true), status: values.map(() => 0), detectors: {},
    });
    const p = points([1, 2, 3]);
    const grown = extend(p, more(10, [3, 4, 5]));
    expect(grown.time_unix_seconds).toEqual([0, 5, 10, 15, 20]);
    expect(grown.value).toEqual([1, 2, 3, 4, 5]);
    expect(extend(grown, more(10, [3, 4, 5]))).toBe(grown);
  });

  it('of shares end at the whole', () => {
    expect(yRange(points([0.97, 1]), false, null, true)[1]).toBe(1);
    expect(yRange(points([-1e-8, 1]), false)[0]).toBe(0);
    expect(yRange(points([0.97, 1]), false)[1]).toBeGreaterThan(1);
    expect(yRange(points([0.97, 1.4]), false, null, true)[1]).toBeGreaterThan(1.4);
  });

  it('of scores have no band', () => {
    const p = scorePoints(points([1, 2]), [0.5, 99]);
    expect(p.value).toEqual([0.5, 2.4]);
    expect(p.high).toEqual([null, null]);
  });
});

describe('the map', () => {
  const map = {
    nodes: ['web', 'gateway', 'cart', 'redis'].map((name) => ({ name, entity: name, outside: false, status: 'scored' as const, rate: 1, error_ratio: 0, p95_seconds: 0 })),
    edges: [['web', 'gateway'], ['gateway', 'cart'], ['cart', 'redis'], ['gateway', 'redis'], ['redis', 'cart']].map(([client, server]) => ({ client: client!, server: server!, entity: '', rate: 1, error_ratio: 0, p95_seconds: 0 })),
  };
  it('has calls going down, and bears circles', () => {
    const found = layers({ nodes: map.nodes, edges: map.edges.slice(0, 4) });
    expect(found).toEqual([['web'], ['gateway'], ['cart'], ['redis']]);
    expect(layers(map).flat().sort()).toEqual(['cart', 'gateway', 'redis', 'web']);
  });

  it('folds those that are as usual where there are many', () => {
    const many = Array.from({ length: 60 }, (_, i) => `s${i}`);
    const [layer] = fold([many], new Set(['s7', 's9']), 8, 61);
    expect(layer).toEqual(['s7', 's9', '+58']);
    expect(fold([many.slice(0, 5)], new Set(), 8, 5)).toEqual([many.slice(0, 5)]);
  });

  it('puts a wide layer of a small system into rows', () => {
    expect(fold([['web'], ['a', 'b', 'c', 'd', 'e']], new Set(), 4, 6)).toEqual([['web'], ['a', 'b', 'c'], ['d', 'e']]);
  });
});

it('the strip begins with what alarms', () => {
  const row = (name: string, ratio: number, alarmed: number[] = []): StripRow => ({ entity: name, labels: { 'service.name': name }, status: 'scored', ratio: [ratio], minutes: ['scored'], alarmed });
  const rows = [row('a', 0.2), row('b', 0.9), row('c', 0.1, [0]), row('d', 0.3)];
  expect(sortRows(rows, new Set(['d'])).map((one) => one.entity)).toEqual(['d', 'c', 'b', 'a']);
});

it('the strip calls nothing usual that is not judged', () => {
  const row = (ratio: (number | null)[], status: StripRow['status'] = 'scored'): StripRow => ({ entity: 'a', labels: { 'service.name': 'a' }, status, ratio, minutes: ratio.map(() => status), alarmed: [] });
  expect([row([null, 0.2]), row([null, null]), row([0.3, ...Array.from({ length: 10 }, () => null)]), row([0.2], 'missing')].map((one) => markFor(one, new Set()))).toEqual(['ok', 'warming_up', 'warming_up', 'missing']);
  expect(markFor(row([2]), new Set(['a']))).toBe('fire');
});

it('the strip grows by its last minutes', () => {
  const row = (minutes: StripRow['minutes'], alarmed: number[], entity = 'a'): StripRow => ({ entity, labels: {}, status: 'scored', ratio: minutes.map((one) => (one ? 1 : null)), minutes, alarmed });
  const known = { last_unix_seconds: 600, minutes: 6, rows: [row(['missing', 'scored', 'scored', 'scored', 'stale', 'scored'], [1, 2, 5]), row([null, null, null, null, null, 'scored'], [], 'gone')] };
  const more = { last_unix_seconds: 660, minutes: 3, rows: [row(['excluded', 'scored', 'missing'], [1]), row([null, null, 'scored'], [2], 'new')] };
  const joined = joinStrip(known, more)!;
  expect([joined.last_unix_seconds, joined.minutes]).toEqual([660, 6]);
  expect(joined.rows.map((one) => one.entity)).toEqual(['a', 'new']);
  expect(joined.rows[0]!.minutes).toEqual(['scored', 'scored', 'scored', 'excluded', 'scored', 'missing']);
  expect(joined.rows[0]!.alarmed).toEqual([0, 1, 4]);
  expect(joined.rows[1]!.minutes).toEqual([null, null, null, null, null, 'scored']);
  expect(joined.rows[1]!.alarmed).toEqual([5]);
  expect(joinStrip(known, { ...more, last_unix_seconds: 600 + 3 * 60 })).toBeNull();
  expect(joinStrip(known, { ...more, last_unix_seconds: 540 })).toBeNull();
});

it('addresses are read', () => {
  expect(parse('')).toMatchObject({ page: 'now', id: '' });
  expect(parse('#/alert/abc')).toMatchObject({ page: 'alert', id: 'abc' });
  expect(parse('#/explore?entity=%7Ba%3D%221%22%7D').query.get('entity')).toBe('{a="1"}');
});

describe('the connection', () => {
  class Socket {
    static readonly OPEN = 1;
    static all: Socket[] = [];
    readyState = 0;
    sent: string[] = [];
    onopen: () => void = () => {};
    onclose: () => void = () => {};
    onmessage: (event: { data: string }) => void = () => {};
    constructor(readonly url: string) {
      Socket.all.push(this);
    }
    send(text: string): void {
      this.sent.push(text);
    }
    close(): void {
      this.readyState = 3;
    }
    open(): void {
      this.readyState = 1;
      this.onopen();
    }
    say(message: object): void {
      this.onmessage({ data: JSON.stringify(message) });
    }
  }

  beforeEach(() => {
    Socket.all = [];
    vi.stubGlobal('WebSocket', Socket);
    vi.useFakeTimers();
  });
  afterEach(() => vi.useRealTimers());

  it('asks to go on where it was lost, and says that it has healed', async () => {
    const link = new LiveLink(() => 'ws://x');
    const healed = vi.fn();
    const alerts: AlertState[] = [];
    link.onHeal = healed;
    link.onAlert = (one) => alerts.push(one);
    link.connect();
    const first = Socket.all[0]!;
    first.open();
    await Promise.resolve();
    expect(JSON.parse(first.sent[0]!)).toEqual({ topics: ['alerts', 'entities'], series: [] });
    first.say({ topic: 'hello', id: 7 });
    first.say({ topic: 'alerts', id: 8, alert: alertOf() });
    expect(link.state.link).toBe('live');
    first.onclose();
    expect(link.state.link).toBe('lost');
    vi.advanceTimersByTime(600);
    const second = Socket.all[1]!;
    second.open();
    await Promise.resolve();
    expect(JSON.parse(second.sent[0]!).after).toBe(8);
    second.say({ topic: 'hello', id: 8 });
    expect(link.state.link).toBe('live');
    expect(link.state.healed).toBeGreaterThan(0);
    expect(healed).toHaveBeenCalledOnce();
    vi.advanceTimersByTime(4100);
    expect(link.state.healed).toBe(0);
    expect(alerts).toHaveLength(1);
  });

  it('on which nothing comes is none', () => {
    const link = new LiveLink(() => 'ws://x');
    link.connect();
    Socket.all[0]!.open();
    Socket.all[0]!.say({ topic: 'hello', id: 0 });
    vi.advanceTimersByTime(9000);
    expect(link.state.link).toBe('lost');
  });

  it('takes to the stream of events where no WebSocket brings anything', async () => {
    vi.useRealTimers();
    const urls: URL[] = [];
    let say: (text: string) => void = () => {};
    vi.stubGlobal('fetch', (url: URL, init: RequestInit) => {
      urls.push(url);
      const body = new ReadableStream<Uint8Array>({
        start(to) {
          say = (text) => to.enqueue(new TextEncoder().encode(text));
          init.signal?.addEventListener('abort', () => to.error(new Error('over')));
        },
      });
      return Promise.resolve(new Response(body));
    });
    const link = new LiveLink(() => 'ws://x');
    const alerts: AlertState[] = [];
    const healed = vi.fn();
    link.onAlert = (one) => alerts.push(one);
    link.onHeal = healed;
    link.connect();
    Socket.all[0]!.onclose();
    await waitFor(() => expect(urls).toHaveLength(1));
    say('data: {"topic":"hello","id":7}\n\nid: 8\ndata: ' + JSON.stringify({ topic: 'alerts', id: 8, alert: alertOf() }).slice(0, 40));
    say(JSON.stringify({ topic: 'alerts', id: 8, alert: alertOf() }).slice(40) + '\n\n');
    await waitFor(() => expect(alerts).toHaveLength(1));
    expect(link.state.link).toBe('live');
    link.want('e', 'f');
    await waitFor(() => expect(urls).toHaveLength(2));
    expect(Object.fromEntries(urls[1]!.searchParams)).toEqual({ topics: 'alerts,entities', series: '[["e","f"]]', after: '8' });
    expect(healed).toHaveBeenCalledOnce();
    expect(link.state.link).toBe('live');
  });

  it('asks for points of series while somebody wants them', async () => {
    const link = new LiveLink(() => 'ws://x');
    link.connect();
    const socket = Socket.all[0]!;
    socket.open();
    const done = [link.want('e', 'f'), link.want('e', 'f')];
    await Promise.resolve();
    expect(JSON.parse(socket.sent.at(-1)!).series).toEqual([['e', 'f']]);
    done[0]!();
    await Promise.resolve();
    expect(JSON.parse(socket.sent.at(-1)!).series).toEqual([['e', 'f']]);
    done[1]!();
    await Promise.resolve();
    expect(JSON.parse(socket.sent.at(-1)!).series).toEqual([]);
  });
});
