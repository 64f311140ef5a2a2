import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { act, cleanup, fireEvent, render, screen, waitFor, within } from '@testing-library/react';
import type { ReactElement } from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { live } from './live';
import { Detectors } from './pages/detectors';
import { Settings } from './pages/settings';
import { inForce } from './pages/settings/intervals';
import { matchersOf } from './pages/settings/tell';
import { Sources } from './pages/sources';
import type { ControlRecord, DetectorState, SourceState, Standing } from './types';

const NOW = Date.parse('2026-03-02T17:40:00Z');
const nano = (ms: number): number => ms * 1e6;
const standing: Standing = {
  environment: 'shop', now_unix_seconds: NOW / 1000, watermark_unix_seconds: null, silent_seconds: 1, not_ready: [], demo: false, entities: 2, series: 9, series_not_viewed: 0, open_alerts: 0,
};

const answers: Record<string, unknown> = {};
const asked: { method: string; path: string; body: unknown }[] = [];

beforeEach(() => {
  for (const key of Object.keys(answers)) delete answers[key];
  asked.length = 0;
  answers['/api/v1/control'] = { controls: [] };
  answers['/api/v1/config'] = { settings: [] };
  answers['/api/v1/me'] = { name: 'ann', role: 'operator', may: ['read', 'ingest', 'control'] };
  vi.stubGlobal('fetch', (url: URL, init: RequestInit) => {
    const method = init.method ?? 'GET';
    asked.push({ method, path: url.pathname, body: init.body ? JSON.parse(String(init.body)) : null });
    const kind = url.searchParams.get('kind');
    const found = method === 'GET' ? (answers[`${url.pathname}?kind=${kind}`] ?? answers[url.pathname]) : {};
    return Promise.resolve(new Response(JSON.stringify(found ?? { title: 'Not Found', detail: 'there is none' }), { status: found ? 200 : 404 }));
  });
  act(() => {
    const entities = new Map([['{service.name="payment"}', ['{service.name="payment"}', 'scored', 0.2, 0, 3]], ['{service.name="cart",tier="front"}', ['{service.name="cart",tier="front"}', 'scored', 0.2, 0, 3]]]);
    (live as unknown as { set: (change: object) => void }).set({ link: 'live', standing, entities });
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

const control = (change: Partial<ControlRecord>): ControlRecord => ({ kind: 'silence', id: 's', episode: '', label: '', comment: '', author: '', effective_unix_nano: nano(NOW - 60e3), until_unix_nano: nano(NOW + 60e3), matchers: { 'service.name': 'payment' }, ...change });

describe('labels that a silence matches', () => {
  it('are read as people write them', () => {
    expect(matchersOf('  ')).toEqual({});
    expect(matchersOf('service.name=payment, tier = "front"')).toEqual({ 'service.name': 'payment', tier: 'front' });
    expect(matchersOf('{client="a",server="b, c"}')).toEqual({ client: 'a', server: 'b, c' });
    for (const wrong of ['payment', 'a=', '=b', 'a=b,', '{}']) expect(matchersOf(wrong)).toBeNull();
  });
});

describe('what is in force', () => {
  it('stands first, what is over or withdrawn nowhere', () => {
    const later = nano(NOW + 30e3);
    const all = [
      control({ id: 'coming', effective_unix_nano: later, until_unix_nano: later + 1e9 }),
      control({ id: 'over', until_unix_nano: nano(NOW - 1) }),
      control({ id: 'open', until_unix_nano: 0 }),
      control({ id: 'withdrawn', effective_unix_nano: later, until_unix_nano: later }),
      control({ id: 'now' }),
    ];
    expect(inForce(all, NOW).map((one) => one.id)).toEqual(['open', 'now', 'coming']);
  });

  it('is listed and ended early by who may', async () => {
    answers['/api/v1/control?kind=silence'] = { controls: [control({ id: 'a/b', comment: 'disks' })] };
    shown(<Settings />);
    const table = await screen.findByRole('region', { name: 'In force and to come' });
    expect(within(table).getByText('in force')).toBeTruthy();
    expect(within(table).getByText('disks')).toBeTruthy();
    fireEvent.click(within(table).getByRole('button', { name: 'End the silence of payment' }));
    await waitFor(() => expect(asked.find((one) => one.method === 'DELETE')?.path).toBe('/api/v1/control/a%2Fb'));
  });

  it('is only shown to who may only read', async () => {
    answers['/api/v1/me'] = { name: 'vic', role: 'viewer', may: ['read'] };
    answers['/api/v1/control?kind=silence'] = { controls: [control({})] };
    shown(<Settings />);
    await screen.findByRole('region', { name: 'In force and to come' });
    await waitFor(() => expect(screen.queryByRole('button', { name: /^End the silence/ })).toBeNull());
    expect(screen.getByText(/Your token may only read/)).toBeTruthy();
    expect((screen.getByRole('button', { name: 'Start maintenance now' }) as HTMLButtonElement).disabled).toBe(true);
  });
});

describe('telling', () => {
  const posted = (): unknown => asked.find((one) => one.method === 'POST')?.body;

  it('sends what, of whom, from when, until when and why', async () => {
    shown(<Settings />);
    fireEvent.click(await screen.findByRole('button', { name: 'Silence' }));
    fireEvent.change(screen.getByLabelText('Of'), { target: { value: 'service.name=payment' } });
    expect(screen.getByText('now 1 entity of 2')).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'Later' }));
    fireEvent.change(screen.getByLabelText('Begins at'), { target: { value: '2026-03-03T01:00' } });
    fireEvent.click(screen.getByRole('button', { name: 'Until …' }));
    fireEvent.change(screen.getByLabelText('Ends at'), { target: { value: '2026-03-03T03:30' } });
    fireEvent.change(screen.getByLabelText('Why'), { target: { value: 'backup' } });
    fireEvent.click(screen.getByRole('button', { name: 'Plan silence' }));
    await waitFor(() =>
      expect(posted()).toEqual({
        kind: 'silence', matchers: { 'service.name': 'payment' }, comment: 'backup',
        effective_unix_nano: nano(new Date('2026-03-03T01:00').getTime()), until_unix_nano: nano(new Date('2026-03-03T03:30').getTime()),
      }),
    );
  });

  it('that makes no sense is not sent', async () => {
    shown(<Settings />);
    const start = (await screen.findByRole('button', { name: 'Start maintenance now' })) as HTMLButtonElement;
    fireEvent.change(screen.getByLabelText('Of'), { target: { value: 'payment' } });
    expect(start.disabled).toBe(true);
    expect(screen.getByText(/Write labels as name=value/)).toBeTruthy();
    fireEvent.change(screen.getByLabelText('Of'), { target: { value: '' } });
    fireEvent.click(screen.getByRole('button', { name: 'Until …' }));
    fireEvent.change(screen.getByLabelText('Ends at'), { target: { value: '2020-01-01T00:00' } });
    expect(screen.getByText('It ends before it begins.')).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'No end' }));
    fireEvent.click(start);
    await waitFor(() => expect(posted()).toEqual({ kind: 'maintenance', matchers: {}, comment: '' }));
  });
});

describe('detectors', () => {
  it('say how long a batch takes, and how much they get through', async () => {
    const one: DetectorState = {
      name: 'linear', model: 'linear', type: 'linear', version: 1, kind: 'multivariate', role: 'primary', warm_up_rows: 60, warm_up_seconds: 300, judging: 2, of: 4, budget_per_day: 0.2, achieved_per_day: 0.5, achieved_ratio: 2.5,
      anomalies: 1200, episodes: 3, open: 1, true_positives: 2, false_positives: 1, latency_seconds: 0.001, latency_p50_seconds: 0.0009, latency_p99_seconds: 0.0042, rows_per_second: 52000,
    };
    answers['/api/v1/detectors'] = { detectors: [one, { ...one, name: 'new', judging: 0, achieved_per_day: null, achieved_ratio: null, latency_p50_seconds: null, latency_p99_seconds: null, rows_per_second: null }] };
    shown(<Detectors />);
    const [, first, second] = await screen.findAllByRole('row');
    const said = first!.textContent!.replace(/[\u202f\u00a0]/g, ' ');
    expect(said).toContain('900 µs, 4.2 ms');
    expect(said).toContain('52 k');
    expect(said).toContain('over its budget');
    expect(second!.textContent).toContain('warming up');
  });
});

describe('sources', () => {
  it('say how late they are, and what of them was not used', async () => {
    const one: SourceState = {
      name: 'kafka', type: 'kafka', state: 'late', problem: 'partition 4 is behind', lateness_seconds: 30, records: 5, samples: 9000, samples_per_second: 160, behind_seconds: 96, silent_seconds: 1, delay_p50_seconds: 41, delay_p99_seconds: 96.4,
      last_received: new Date(NOW).toISOString(), pace: Array.from({ length: 60 }, () => 10), dropped: [{ reason: 'late', count: 900 }, { reason: 'future', count: 100 }],
    };
    answers['/api/v1/sources'] = { sources: [one], dropped: [{ reason: 'late', count: 905, says: 'too old', sources: [{ source: 'kafka', count: 900 }, { source: 'host', count: 5 }] }] };
    answers['/api/v1/alerts'] = { alerts: [], next: null };
    shown(<Sources />);
    const [, row] = await screen.findAllByRole('row');
    const said = row!.textContent!.replace(/[\u202f\u00a0]/g, ' ');
    for (const part of ['late', 'partition 4 is behind', '41 s, 96.4 s', '1.0 k', '10 %', 'mostly too late']) expect(said).toContain(part);
    expect(screen.getByText('of kafka 900, host 5')).toBeTruthy();
  });
});

describe('a setting', () => {
  it('says what it is, where it came from and what it means, and is found by that', async () => {
    answers['/api/v1/config'] = {
      settings: [
        { key: 'stream.step', value: '5s', origin: 'preset demo', says: 'Length of a step.' },
        { key: 'seed', value: '0', origin: 'default', says: 'Seed of everything random.' },
      ],
    };
    shown(<Settings />);
    await waitFor(() => screen.getByText('Length of a step.'));
    expect(screen.queryByText('seed')).toBeNull();
    fireEvent.click(screen.getByRole('button', { name: 'All' }));
    fireEvent.change(screen.getByRole('searchbox', { name: 'Find a setting' }), { target: { value: 'random' } });
    expect(screen.getByText('seed')).toBeTruthy();
    expect(screen.queryByText('stream.step')).toBeNull();
  });
});

describe('what the server put into the page', () => {
  it('is used once, and only at the start', async () => {
    vi.useFakeTimers();
    const element = document.createElement('script');
    element.id = 'first';
    element.type = 'application/json';
    element.textContent = JSON.stringify({ '/api/v1/map': { nodes: ['here'] }, '/ws': { standing: 1 }, '/api/v1/strip': { old: true } });
    document.body.append(element);
    vi.resetModules();
    const api = await import('./api');
    answers['/api/v1/map'] = { nodes: ['asked for'] };
    answers['/api/v1/strip'] = { asked: true };
    expect(await api.get('/api/v1/map')).toEqual({ nodes: ['here'] });
    expect(await api.get('/api/v1/map')).toEqual({ nodes: ['asked for'] });
    expect(api.first('/ws')).toEqual({ standing: 1 });
    expect(api.first('/ws')).toBeUndefined();
    vi.advanceTimersByTime(5001);
    expect(await api.get('/api/v1/strip')).toEqual({ asked: true });
    element.remove();
    vi.useRealTimers();
  });
});
