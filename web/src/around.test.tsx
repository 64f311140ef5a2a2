import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { renderHook, waitFor } from '@testing-library/react';
import type { JSX, ReactNode } from 'react';
import { afterEach, describe, expect, it, vi } from 'vitest';

import { useAround } from './pages/alert/around';
import type { AlertState } from './types';

const START = Date.parse('2026-03-02T12:00:00Z');
const alert = {
  status: 'resolved', labels: {}, annotations: {}, startsAt: new Date(START).toISOString(), endsAt: new Date(START + 60_000).toISOString(),
  foreshock: { episode: 'e', kind: 'anomaly' },
} as unknown as AlertState;

const chart = (from: number): object => {
  const times = [0, 1, 2].map((i) => from + i * 5);
  const each = <T,>(value: T): T[] => times.map(() => value);
  const points = { time_unix_seconds: times, value: each(1), least: each(1), most: each(1), expected: each(1), low: each(0), high: each(2), anomalous: each(false), status: each('scored') };
  return { entity: 'x', feature: 'f', title: '', unit: '', kind: 'gauge', raw: true, bucket_seconds: 0, oldest_unix_seconds: null, parts: [], points, detectors: [] };
};

const asked: URLSearchParams[] = [];

/** The hook, where memory begins at `memory` (s) and what is kept of another time begins a little before the alert. */
function around(memory: number, keeps = true): { current: ReturnType<typeof useAround> } {
  asked.length = 0;
  vi.stubGlobal('fetch', (url: URL) => {
    asked.push(url.searchParams);
    const since = url.searchParams.get('since');
    if (since && !keeps) return Promise.resolve(new Response('{}', { status: 404 }));
    return Promise.resolve(new Response(JSON.stringify(chart(since ? START / 1000 - 5 : memory))));
  });
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  const wrapper = ({ children }: { children: ReactNode }): JSX.Element => <QueryClientProvider client={client}>{children}</QueryClientProvider>;
  return renderHook(() => useAround(alert, 'x', 'f'), { wrapper }).result;
}

afterEach(() => vi.unstubAllGlobals());

describe('the series of an alert', () => {
  it('is what is in memory where that reaches back to before it', async () => {
    const found = around(START / 1000 - 3600);
    await waitFor(() => expect(found.current.data?.points.time_unix_seconds[0]).toBe(START / 1000 - 3600));
    expect(asked).toHaveLength(1);
  });

  it('is else what is kept of its time, from half an hour before to ten minutes after', async () => {
    const found = around(START / 1000 + 86_400);
    await waitFor(() => expect(found.current.data?.points.time_unix_seconds[0]).toBe(START / 1000 - 5));
    expect([asked[1]!.get('since'), asked[1]!.get('until')].map(Number)).toEqual([START / 1000 - 1800, START / 1000 + 660]);
  });

  it('is what there is where nothing else can be had', async () => {
    const found = around(START / 1000 + 86_400, false);
    await waitFor(() => expect(found.current.isError).toBe(true));
    expect(found.current.data?.points.time_unix_seconds[0]).toBe(START / 1000 + 86_400);
  });
});
