import { keepPreviousData, QueryClient, useInfiniteQuery, useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useMemo } from 'react';

import { ApiError, first, get } from './api';
import { extend, live, useWanted } from './live';
import type { Range } from './range';
import type {
  AlertState, Alerts, BudgetView, Chart, ControlRecord, DetectorState, Dropped, Faults, Finding, Me, ServiceMap, Setting, SeriesState, SourceState, StripView,
} from './types';

export const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 1000,
      refetchOnWindowFocus: false,
      networkMode: 'always',
      retry: (failures, error) => !(error instanceof ApiError && error.status < 500) && failures < 1,
      retryDelay: 500,
    },
    mutations: { networkMode: 'always' },
  },
});

const V = '/api/v1';

/** What holds for a time, and can be ended early. */
export type Interval = 'maintenance' | 'silence' | 'deploy';

export const OPEN = ['alerts', 'open'];

export const isReal = (alert: AlertState): boolean => alert.foreshock.kind !== 'watchdog';

/** Alerts that fire, the latest start first. */
export const useOpen = () =>
  useQuery({
    queryKey: OPEN,
    queryFn: async () => (await get<Alerts>(`${V}/alerts`, { status: 'firing', limit: 500 })).alerts.filter(isReal),
    refetchInterval: 30_000,
  });

export const useHistory = (filter: { status?: string; text?: string; kind?: string; entity?: string }) =>
  useInfiniteQuery({
    queryKey: ['alerts', 'history', filter],
    queryFn: ({ pageParam }) => {
      const query: Record<string, string | number | undefined> = { limit: 50, ...filter };
      if (pageParam) query['cursor'] = pageParam;
      return get<Alerts>(`${V}/alerts`, query);
    },
    initialPageParam: '',
    getNextPageParam: (last) => last.next ?? undefined,
    refetchInterval: 30_000,
  });

export const useAlert = (episode: string) =>
  useQuery({ queryKey: ['alert', episode], queryFn: () => get<AlertState>(`${V}/alerts/${episode}`) });

/**
 * The strip of all entities: each minute as a whole, in between its last minutes, which are joined with what is known.
 * While no row reaches up to now its past may still be filled in, and it is asked for as a whole.
 */
export function useStrip() {
  const cache = useQueryClient();
  return useQuery({
    queryKey: STRIP,
    queryFn: async () => {
      const known = cache.getQueryData<StripView>(STRIP);
      if (known && Date.now() - wholeAt < WHOLE_MS && reachesNow(known)) {
        const joined = joinStrip(known, await get<StripView>(`${V}/strip`, { minutes: LAST_MINUTES }));
        if (joined) return joined;
      }
      wholeAt = Date.now();
      return get<StripView>(`${V}/strip`);
    },
    refetchInterval: 10_000,
    structuralSharing: false,
  });
}

const STRIP = ['strip'];
const WHOLE_MS = 55_000;
let wholeAt = 0;
/** As few as the server gives. */
const LAST_MINUTES = 10;

/** Whether a row of some entity is of the last three minutes. */
const reachesNow = (strip: StripView): boolean => strip.rows.some((row) => row.minutes.slice(-3).some((one) => one !== null));

/** A strip with newer minutes in their place; null where a gap would be left between them. */
export function joinStrip(known: StripView, more: StripView): StripView | null {
  const moved = Math.round((more.last_unix_seconds - known.last_unix_seconds) / 60);
  const kept = known.minutes - more.minutes;
  if (moved < 0 || moved >= more.minutes || kept < 0) return null;
  const rows = new Map(known.rows.map((row) => [row.entity, row]));
  const nothing = Array.from({ length: known.minutes }, () => null);
  return {
    ...known,
    last_unix_seconds: more.last_unix_seconds,
    rows: more.rows.map((row) => {
      const old = rows.get(row.entity);
      const before = <T>(values: T[] | undefined): (T | null)[] => (values ?? nothing).slice(moved, moved + kept);
      return {
        ...row,
        ratio: [...before(old?.ratio), ...row.ratio],
        minutes: [...before(old?.minutes), ...row.minutes],
        alarmed: [...(old?.alarmed ?? []).map((at) => at - moved).filter((at) => at >= 0 && at < kept), ...row.alarmed.map((at) => at + kept)],
      };
    }),
  };
}

export const useMap = () =>
  useQuery({ queryKey: ['map'], queryFn: () => get<ServiceMap>(`${V}/map`), refetchInterval: 3000, structuralSharing: false });

export const useBudget = () =>
  useQuery({ queryKey: ['budget'], queryFn: () => get<BudgetView>(`${V}/budget`), refetchInterval: 15_000 });

export const useDetectors = () =>
  useQuery({
    queryKey: ['detectors'],
    queryFn: async () => (await get<{ detectors: DetectorState[] }>(`${V}/detectors`)).detectors,
    refetchInterval: 3000,
  });

export const useSources = () =>
  useQuery({
    queryKey: ['sources'],
    queryFn: () => get<{ sources: SourceState[]; dropped: Dropped[] }>(`${V}/sources`),
    refetchInterval: 2000,
  });

export const useSettings = () =>
  useQuery({ queryKey: ['config'], queryFn: async () => (await get<{ settings: Setting[] }>(`${V}/config`)).settings });

/** Who asks, and what they may do; where that is not known, nothing is forbidden beforehand: the server decides. */
export function useMay(what: Me['may'][number]): boolean {
  const me = useQuery({ queryKey: ['me'], queryFn: () => get<Me>(`${V}/me`), staleTime: Infinity });
  return !me.data || me.data.may.includes(what);
}

/** Maintenance, deploys or silences that are in force or to come, the next to begin last. */
export const useIntervals = (kind: Interval) =>
  useQuery({
    queryKey: ['control', 'intervals', kind],
    queryFn: async () => (await get<{ controls: ControlRecord[] }>(`${V}/control`, { kind, since: Math.floor(Date.now() / 1000), limit: 200 })).controls,
    refetchInterval: 15_000,
  });

export const useControls = (kind?: string) =>
  useQuery({
    queryKey: ['control', kind ?? ''],
    queryFn: async () => (await get<{ controls: ControlRecord[] }>(`${V}/control`, { kind, limit: 200 })).controls,
    refetchInterval: 15_000,
  });

export const useFaults = (enabled: boolean, often: boolean) =>
  useQuery({
    queryKey: ['faults'],
    queryFn: () => get<Faults>(`${V}/demo/faults`),
    enabled,
    refetchInterval: often ? 1000 : 5000,
  });

/** All series that are in view, without points. */
export const useSeriesList = () =>
  useQuery({
    queryKey: ['series'],
    queryFn: async () => {
      const out: SeriesState[] = [];
      for (let cursor: string | null | undefined; cursor !== null && out.length < 10_000; ) {
        const page: { series: SeriesState[]; next: string | null } = await get(`${V}/series`, { limit: 1000, cursor });
        out.push(...page.series);
        cursor = page.next;
      }
      return out;
    },
    refetchInterval: 60_000,
  });

export const chartKey = (entity: string, feature: string) => ['chart', entity, feature];

const fetchChart = (entity: string, feature: string): Promise<Chart> =>
  get<Chart>(`${V}/series/points`, { entity, feature, most: 1000 });

/** A series with its points, which grow as new ones come. */
export function useChart(entity: string | undefined, feature: string | undefined) {
  const pairs = useMemo<[string, string][]>(() => (entity && feature ? [[entity, feature]] : []), [entity, feature]);
  useWanted(pairs);
  return useQuery({
    queryKey: chartKey(entity ?? '', feature ?? ''),
    queryFn: () => fetchChart(entity!, feature!),
    enabled: !!entity && !!feature,
    staleTime: 60_000,
    // Thousands of numbers of which the last ones are new: to compare them all costs more than to draw them.
    structuralSharing: false,
  });
}

/** A series over a stretch of time, as the server keeps it; the last answer stays until the next one is there. */
export const useStretch = (entity: string, feature: string, stretch: Range | null, most: number) =>
  useQuery({
    queryKey: ['stretch', entity, feature, ...(stretch ?? []), most],
    queryFn: () => get<Chart>(`${V}/series/points`, { entity, feature, since: Math.max(0, stretch![0]), until: stretch![1], most }),
    enabled: stretch !== null,
    placeholderData: keepPreviousData,
    staleTime: 300_000,
    gcTime: 60_000,
    // What is newer comes over the WebSocket, for as long as the server keeps it in memory.
    refetchInterval: stretch ? Math.min(600, Math.max(30, (stretch[1] - stretch[0]) / 100)) * 1000 : false,
  });

/** What detectors found of an entity in a stretch of time, the newest first. */
export const useFindings = (entity: string, stretch: Range | null) =>
  useQuery({
    queryKey: ['findings', entity, ...(stretch ?? [])],
    queryFn: async () =>
      (await get<{ verdicts: Finding[] }>(`${V}/verdicts`, { entity, since: stretch![0], until: stretch![1], limit: 50 })).verdicts,
    enabled: stretch !== null,
    staleTime: 60_000,
  });

/** Join what comes over the WebSocket with what was asked for. */
export function useLiveCache(): void {
  const cache = useQueryClient();
  useEffect(() => {
    live.onPoints = (more) =>
      cache.setQueryData<Chart>(chartKey(more.entity, more.feature), (old) => {
        if (!old) return old;
        const points = extend(old.points, more);
        if (points === old.points) return old;
        const before = old.points.time_unix_seconds.at(-1) ?? 0;
        const added = more.time_unix_seconds.filter((t) => t > before + 1e-6).length;
        const keep = points.time_unix_seconds.length;
        const grown = <T,>(values: T[], now: T[]): T[] => [...values, ...now.slice(-added)].slice(-keep);
        const nothing = more.time_unix_seconds.map(() => null);
        return {
          ...old,
          points,
          detectors: old.detectors.map((one) => ({
            ...one,
            ratio: grown(one.ratio, more.detectors[one.detector] ?? nothing),
            p_value: grown(one.p_value, nothing),
          })),
        };
      });
    live.onAlert = (alert) => {
      cache.setQueryData<AlertState[]>(OPEN, (old) => {
        if (!old) return old;
        const rest = old.filter((one) => one.foreshock.episode !== alert.foreshock.episode);
        if (alert.status !== 'firing') return rest;
        return [alert, ...rest].sort((a, b) => Date.parse(b.startsAt) - Date.parse(a.startsAt));
      });
      cache.setQueryData<AlertState>(['alert', alert.foreshock.episode], (old) => (old ? alert : old));
      void cache.invalidateQueries({ queryKey: ['alerts', 'history'] });
      void cache.invalidateQueries({ queryKey: ['budget'] });
      void cache.invalidateQueries({ queryKey: ['strip'] });
      void cache.invalidateQueries({ queryKey: ['map'] });
      void cache.invalidateQueries({ queryKey: ['faults'] });
    };
    live.onHeal = () => void cache.invalidateQueries();
    live.begin(first('/ws'));
    live.connect();
  }, [cache]);
}
