import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { act, cleanup, fireEvent, render, screen, waitFor, within as inside } from '@testing-library/react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { axisTime } from './chart';
import { attach } from './gestures';
import { live } from './live';
import { Explore } from './pages/explore';
import { found, strongest } from './pages/explore-cursor';
import { field, notesOf } from './pages/explore-notes';
import { anomalies, CLOSEST, lastShown, madeOf, moved, tile, within, withGaps, withTail, zoomed, type Range } from './range';
import type { AlertState, Chart, ControlRecord, Finding } from './types';

const NOW = Date.parse('2026-03-02T18:00:00Z') / 1000;
const ENTITY = '{service.name="payment"}';

function chartOf(times: number[], change: Partial<Chart> = {}): Chart {
  const n = times.length;
  const fill = <T,>(value: T): T[] => Array.from({ length: n }, () => value);
  return {
    entity: ENTITY, feature: 'calls.rate', title: 'calls rate', unit: '1/s', kind: 'gauge', raw: true, bucket_seconds: 0, oldest_unix_seconds: times[0] ?? null,
    parts: n ? [{ from_unix_seconds: times[0]!, kept_seconds: 0 }] : [],
    points: {
      time_unix_seconds: times, value: times.map((_, i) => i), least: times.map((_, i) => i), most: times.map((_, i) => i), expected: fill<number | null>(1), low: fill<number | null>(0), high: fill<number | null>(2), anomalous: fill(false), status: fill('scored' as const),
    },
    detectors: [{ detector: 'deviation', whole: false, ratio: times.map(() => 0.5), p_value: times.map(() => 0.5) }],
    ...change,
  };
}

const steps = (n: number, from = 0, step = 5): number[] => Array.from({ length: n }, (_, i) => from + i * step);

describe('ranges', () => {
  it('stay within what there is, and keep their length where they can', () => {
    expect(within([-50, 50], [0, 1000])).toEqual([0, 100]);
    expect(within([950, 1050], [0, 1000])).toEqual([900, 1000]);
    expect(within([-500, 5000], [0, 1000])).toEqual([0, 1000]);
    expect(within([500, 501], [0, 1000])[1] - within([500, 501], [0, 1000])[0]).toBe(CLOSEST);
  });

  it('zoom around what the pointer is on', () => {
    expect(zoomed([0, 100], 25, 0.5)).toEqual([12.5, 62.5]);
    expect(zoomed([0, 100], 100, 2)).toEqual([-100, 100]);
    expect(moved([0, 100], -0.25)).toEqual([-25, 75]);
  });

  it('ask for more than they show, on a grid', () => {
    const range: Range = [NOW - 3600, NOW];
    const asked = tile(range);
    expect(asked[0]).toBeLessThanOrEqual(range[0] - 1800);
    expect(asked[1]).toBeGreaterThanOrEqual(range[1] + 1800);
    expect(asked[1] - asked[0]).toBeLessThan(4 * 3600);
    const next = tile([range[0] + 1, range[1] + 1]);
    expect([asked[0] === next[0] || next[0] - asked[0] === 1024]).toEqual([true]);
    expect(asked[0] % 1024).toBe(0);
  });

  it('know what they show last', () => {
    expect(lastShown([0, 5, 10], [3, 8])).toBe(1);
    expect(lastShown([0, 5, 10], [6, 8])).toBeNull();
    expect(lastShown([], [0, 1])).toBeNull();
  });
});

describe('an answer', () => {
  it('gets the newest points behind it, in buckets as long as its own', () => {
    const answer = chartOf([0, 60, 120], { bucket_seconds: 60 });
    const recent = chartOf(steps(40, 100));
    const grown = withTail(answer, recent);
    expect(grown.points.time_unix_seconds).toEqual([0, 60, 120, 180, 240]);
    // 180 to 235 are the points 16 to 27 of what is live.
    expect(grown.points.value.slice(3)).toEqual([21.5, 33.5]);
    expect([grown.points.least[3], grown.points.most[3]]).toEqual([16, 27]);
    expect(grown.detectors[0]!.ratio).toHaveLength(5);
    expect(withTail(grown, recent)).toBe(grown);
    expect(withTail(answer, undefined)).toBe(answer);
    expect(withTail(answer, chartOf(steps(40, 9000)))).toBe(answer);
  });

  it('of single points gets each that is newer', () => {
    const grown = withTail(chartOf([0, 5]), chartOf([0, 5, 10, 15]));
    expect(grown.points.time_unix_seconds).toEqual([0, 5, 10, 15]);
    expect(withTail(chartOf([]), chartOf([0, 5])).points.value).toEqual([0, 1]);
  });

  it('is not joined over a gap, however coarse its parts are', () => {
    const whole = withGaps(chartOf([...steps(5), ...steps(5, 300)]));
    expect(whole.points.value[5]).toBeNull();
    expect(whole.points.status[5]).toBe('missing');
    expect(whole.points.time_unix_seconds[5]).toBe(25);
    expect(whole.detectors[0]!.ratio[5]).toBeNull();
    const mixed = chartOf([0, 600, 1200, ...steps(5, 1800)], { parts: [{ from_unix_seconds: 0, kept_seconds: 600 }, { from_unix_seconds: 1800, kept_seconds: 0 }] });
    expect(withGaps(mixed)).toBe(mixed);
    const hourly = chartOf(steps(5, 0, 3600), { parts: [{ from_unix_seconds: 0, kept_seconds: 600 }] });
    expect(withGaps(hourly)).toBe(hourly);
  });

  it('says of what it is made', () => {
    const long = (s: number): string => `${s / 60} min`;
    expect(madeOf(chartOf([0]), long)).toBe('Every point as it came.');
    expect(madeOf(chartOf([0], { bucket_seconds: 1800 }), long)).toContain('30 min');
    expect(madeOf(chartOf([0, 1], { parts: [{ from_unix_seconds: 0, kept_seconds: 600 }, { from_unix_seconds: 1, kept_seconds: 0 }] }), long)).toBe('Kept by 10 min, then point by point.');
  });

  it('marks what is anomalous', () => {
    const p = chartOf(steps(6)).points;
    p.anomalous = [false, true, true, false, false, true];
    expect(anomalies(p, 0)).toEqual([[5, 15], [25, 25]]);
  });

  it('tells the day where midnight is passed', () => {
    const midnight = new Date(2026, 2, 2).getTime();
    expect(axisTime(midnight, 86_400 * 7)).toMatch(/^2 Mar/);
    expect(axisTime(midnight + 3600e3, 86_400 * 7)).toBe('01:00');
    expect(axisTime(midnight, 3600)).toBe('00:00');
  });
});

describe('what stood out', () => {
  it('is asked for where a detector is over its bar', () => {
    const chart = chartOf([0, 60, 120], { bucket_seconds: 60 });
    expect(found(chart, 1)).toBeNull();
    chart.detectors[0]!.ratio[1] = 1.2;
    expect(found(chart, 1)).toEqual([60 - 1e-3, 120 - 1e-3]);
    expect(found(chart, null)).toBeNull();
  });

  it('is the strongest of each detector', () => {
    const one = (detector: string, ratio: number): Finding => ({ detector, ratio }) as Finding;
    expect(strongest([one('a', 1), one('b', 3), one('a', 2)]).map((f) => [f.detector, f.ratio])).toEqual([['b', 3], ['a', 2]]);
  });
});

const control = (change: Partial<ControlRecord>): ControlRecord => ({
  kind: 'deploy', id: change.kind ?? 'd', effective_unix_nano: (NOW - 600) * 1e9, until_unix_nano: 0, matchers: {}, episode: '', label: '', comment: '', author: '', ...change,
});

describe('notes', () => {
  const labels = { 'service.name': 'payment' };
  it('are those of the range and the entity, the latest first', () => {
    const all = [
      control({ id: 'a', comment: 'v5.2', author: 'kim' }),
      control({ id: 'b', matchers: { 'service.name': 'cart' } }),
      control({ id: 'c', kind: 'maintenance', effective_unix_nano: (NOW - 9000) * 1e9, until_unix_nano: (NOW - 3000) * 1e9 }),
      control({ id: 'e', kind: 'maintenance', effective_unix_nano: (NOW - 9000) * 1e9, until_unix_nano: (NOW - 8000) * 1e9 }),
      control({ id: 'f', kind: 'label', label: 'true', episode: 'x' }),
      control({ id: 'g', kind: 'label', label: 'false', matchers: labels, effective_unix_nano: (NOW - 60) * 1e9, until_unix_nano: NOW * 1e9 }),
    ];
    const notes = notesOf(all, [], labels, [NOW - 3600, NOW]);
    expect(notes.map((one) => one.id)).toEqual(['g', 'a', 'c']);
    expect(notes[0]).toMatchObject({ kind: 'Label', what: 'All was well' });
    expect(notes[1]).toMatchObject({ what: 'v5.2, by kim', from: NOW - 600, to: NOW - 600 });
  });

  it('hold alerts, also those that go on', () => {
    const alert = { status: 'firing', startsAt: new Date((NOW - 9000) * 1000).toISOString(), endsAt: '', annotations: { summary: 's' }, foreshock: { episode: 'e', notified: true } } as unknown as AlertState;
    expect(notesOf([], [alert], labels, [NOW - 60, NOW])[0]).toMatchObject({ kind: 'Alert', to: null, effect: 'announced' });
  });
});

describe('gestures', () => {
  const made = (): { element: HTMLDivElement; ranges: Range[]; end: () => void } => {
    const element = document.createElement('div');
    Object.defineProperty(element, 'clientWidth', { value: 100 });
    const ranges: Range[] = [[0, 100]];
    const end = attach(element, { range: () => ranges.at(-1)!, set: (next) => ranges.push(next), at: (left) => left }, (draw) => draw());
    return { element, ranges, end };
  };
  const span = ([from, to]: Range): number => to - from;

  it('the wheel zooms around the pointer, and moves sideways', () => {
    const { element, ranges, end } = made();
    fireEvent.wheel(element, { deltaY: -100, clientX: 50 });
    expect(span(ranges.at(-1)!)).toBeLessThan(100);
    expect((ranges.at(-1)![0] + ranges.at(-1)![1]) / 2).toBeCloseTo(50);
    const before = ranges.at(-1)!;
    fireEvent.wheel(element, { deltaX: 50, deltaY: 0 });
    expect(span(ranges.at(-1)!)).toBeCloseTo(span(before));
    expect(ranges.at(-1)![0]).toBeGreaterThan(before[0]);
    end();
    fireEvent.wheel(element, { deltaY: -100 });
    expect(ranges).toHaveLength(3);
  });

  it('what comes faster than frames is drawn once', () => {
    const element = document.createElement('div');
    Object.defineProperty(element, 'clientWidth', { value: 100 });
    const ranges: Range[] = [[0, 100]];
    const frames: (() => void)[] = [];
    attach(element, { range: () => ranges.at(-1)!, set: (next) => ranges.push(next), at: (left) => left }, (draw) => frames.push(draw));
    for (let i = 0; i < 4; i++) fireEvent.wheel(element, { deltaX: 10, deltaY: 0 });
    expect([frames.length, ranges.length]).toEqual([1, 1]);
    frames[0]!();
    expect(ranges.at(-1)![0]).toBeCloseTo(40);
    fireEvent.wheel(element, { deltaX: 10, deltaY: 0 });
    expect(frames).toHaveLength(2);
  });

  it('a wheel that scrolls the page goes on doing so', () => {
    const { element, ranges } = made();
    window.dispatchEvent(new Event('scroll'));
    expect(fireEvent.wheel(element, { deltaY: 100 })).toBe(true);
    expect(ranges).toHaveLength(1);
  });

  it('one finger moves, two pinch', () => {
    const { element, ranges } = made();
    const touch = (kind: 'pointerDown' | 'pointerMove' | 'pointerUp', pointerId: number, clientX: number): void => {
      const event = new MouseEvent(kind.toLowerCase(), { clientX, bubbles: true });
      Object.assign(event, { pointerId, pointerType: 'touch' });
      element.dispatchEvent(event);
    };
    touch('pointerDown', 1, 20);
    touch('pointerMove', 1, 40);
    expect(ranges.at(-1)).toEqual([-20, 80]);
    touch('pointerUp', 1, 40);
    ranges.push([0, 100]);
    touch('pointerDown', 1, 40);
    touch('pointerDown', 2, 60);
    touch('pointerMove', 2, 80);
    expect(span(ranges.at(-1)!)).toBeCloseTo(50);
  });

  it('with Shift the mouse moves instead of selecting', () => {
    const { element, ranges } = made();
    const selected = vi.fn();
    element.addEventListener('mousedown', selected);
    fireEvent.mouseDown(element, { button: 0, shiftKey: true, clientX: 50 });
    fireEvent.mouseMove(window, { clientX: 40 });
    fireEvent.mouseUp(window);
    fireEvent.mouseMove(window, { clientX: 0 });
    expect(ranges.at(-1)).toEqual([10, 110]);
    expect(selected).not.toHaveBeenCalled();
    fireEvent.mouseDown(element, { button: 0, clientX: 50 });
    expect(selected).toHaveBeenCalledOnce();
  });
});

describe('Explore', () => {
  const answers: Record<string, (url: URL) => unknown> = {};
  const posted: { path: string; body: Record<string, unknown> }[] = [];
  const asked: URL[] = [];

  beforeEach(() => {
    posted.length = asked.length = 0;
    live.state = { ...live.state, link: 'live' };
    const recent = chartOf(steps(100, NOW - 500));
    Object.assign(answers, {
      '/api/v1/series': () => ({ series: [{ entity: ENTITY, feature: 'calls.rate', name: 'calls.rate', attributes: {}, unit: '1/s', kind: 'gauge' }], next: null, not_viewed: 0 }),
      '/api/v1/series/points': (url: URL) => (url.searchParams.has('since') ? chartOf(steps(200, NOW - 12_000, 60), { bucket_seconds: 60, oldest_unix_seconds: NOW - 12_000 }) : recent),
      '/api/v1/alerts': () => ({ alerts: [], next: null }),
      '/api/v1/control': () => ({ controls: [control({ comment: 'v7' })] }),
      '/api/v1/me': () => ({ name: '', role: 'admin', may: ['read', 'ingest', 'control'] }),
      '/api/v1/verdicts': () => ({ verdicts: [], more: false }),
    });
    vi.stubGlobal('fetch', (url: URL, init: RequestInit) => {
      if (init.method === 'POST') posted.push({ path: url.pathname, body: JSON.parse(String(init.body)) as Record<string, unknown> });
      else asked.push(url);
      const answer = init.method === 'POST' ? control({}) : answers[url.pathname]?.(url);
      return Promise.resolve(new Response(JSON.stringify(answer ?? {}), { status: answer ? 200 : 404 }));
    });
  });
  afterEach(() => {
    cleanup();
    vi.unstubAllGlobals();
  });

  const show = (query = ''): void => {
    const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
    render(
      <QueryClientProvider client={client}>
        <Explore query={new URLSearchParams(query)} />
      </QueryClientProvider>,
    );
  };
  const stretches = (): URL[] => asked.filter((one) => one.searchParams.has('since'));

  it('asks for the range that is shown, at the resolution of the screen', async () => {
    show();
    await waitFor(() => screen.getByText('Each detector'));
    const first = stretches()[0]!;
    expect(Number(first.searchParams.get('since'))).toBeLessThanOrEqual(NOW - 3600);
    expect(Number(first.searchParams.get('until'))).toBeGreaterThanOrEqual(NOW - 5);
    expect(first.searchParams.get('most')).toBe('1000');
    fireEvent.click(screen.getByRole('button', { name: '7 days' }));
    await waitFor(() => expect(stretches().length).toBeGreaterThan(1));
    expect(Number(stretches().at(-1)!.searchParams.get('since'))).toBeLessThanOrEqual(NOW - 7 * 86_400);
    // What was shown stays until the answer is there, and what is not kept is said.
    expect(screen.getByText(/Nothing is kept from before/)).toBeTruthy();
    expect(screen.getByText(/Each point stands for/)).toBeTruthy();
  });

  it('shows what the address asks for, and goes back and forth', async () => {
    show(`entity=${encodeURIComponent(ENTITY)}&feature=calls.rate&from=${NOW - 6000}&to=${NOW - 5400}`);
    await waitFor(() => screen.getByRole('button', { name: 'Reset zoom' }));
    fireEvent.click(screen.getByRole('button', { name: 'Earlier' }));
    fireEvent.click(screen.getByRole('button', { name: 'Later' }));
    fireEvent.click(screen.getByRole('button', { name: 'Reset zoom' }));
    expect(screen.queryByRole('button', { name: 'Reset zoom' })).toBeNull();
  });

  it('lists notes, and takes a new one', async () => {
    show();
    await waitFor(() => screen.getByText('v7'));
    fireEvent.click(screen.getByRole('button', { name: 'Add a note' }));
    const form = screen.getByRole('group', { name: 'What' }).closest('form')!;
    fireEvent.click(inside(form).getByRole('button', { name: 'Something was wrong' }));
    fireEvent.change(inside(form).getByLabelText('From'), { target: { value: field(NOW - 300) } });
    fireEvent.change(inside(form).getByLabelText('To'), { target: { value: field(NOW - 400) } });
    expect(inside(form).getByText('It ends before it begins.')).toBeTruthy();
    expect(inside(form).getByRole<HTMLButtonElement>('button', { name: 'Add it' }).disabled).toBe(true);
    fireEvent.change(inside(form).getByLabelText('To'), { target: { value: field(NOW - 200) } });
    fireEvent.change(inside(form).getByLabelText('Why'), { target: { value: 'the disk was full' } });
    act(() => fireEvent.submit(form) && undefined);
    await waitFor(() => expect(posted).toHaveLength(1));
    expect(posted[0]).toEqual({
      path: '/api/v1/control',
      body: { kind: 'label', label: 'true', matchers: { 'service.name': 'payment' }, effective_unix_nano: (NOW - 300) * 1e9, until_unix_nano: (NOW - 200) * 1e9, comment: 'the disk was full' },
    });
    await waitFor(() => expect(screen.queryByRole('group', { name: 'What' })).toBeNull());
  });

  it('lets only those add a note who may', async () => {
    answers['/api/v1/me'] = () => ({ name: 'vic', role: 'viewer', may: ['read'] });
    show();
    await waitFor(() => screen.getByText('Operators may add some.'));
    expect(screen.getByRole<HTMLButtonElement>('button', { name: 'Add a note' }).disabled).toBe(true);
  });

  it('says what stood out at the cursor', async () => {
    const hot = chartOf(steps(100, NOW - 500));
    hot.detectors[0]!.ratio[99] = 3;
    answers['/api/v1/series/points'] = () => hot;
    answers['/api/v1/verdicts'] = () => ({
      verdicts: [{ detector: 'linear', feature: '', ratio: 3.2, normal: '', contributions: [{ feature: 'calls.error_ratio', share: 0.9 }] }], more: false,
    });
    show();
    await waitFor(() => screen.getByText('error ratio'));
    expect(screen.getByText('the entity as a whole')).toBeTruthy();
    const verdicts = asked.find((one) => one.pathname.endsWith('/verdicts'))!;
    expect(Number(verdicts.searchParams.get('since'))).toBeCloseTo(NOW - 5, 1);
  });

  it('shows one that is no longer in view, and fails alone', async () => {
    answers['/api/v1/series/points'] = (url: URL) => (url.searchParams.has('since') ? undefined : undefined);
    show(`entity=${encodeURIComponent(ENTITY)}&feature=gone`);
    await waitFor(() => screen.getByRole('alert'));
    expect(screen.getByRole('alert').textContent).toContain('could not be loaded');
  });
});
