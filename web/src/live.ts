import { useEffect, useSyncExternalStore } from 'react';

import { token } from './api';
import { openStream } from './stream';
import type { AlertState, ChartPoints, EntityNow, Standing } from './types';

/** New points of a series, as they come over the WebSocket. */
export interface NewPoints {
  entity: string;
  feature: string;
  time_unix_seconds: number[];
  value: (number | null)[];
  expected: (number | null)[];
  low: (number | null)[];
  high: (number | null)[];
  anomalous: boolean[];
  status: number[];
  detectors: Record<string, (number | null)[]>;
}

type Message =
  | { topic: 'hello'; id: number }
  | { topic: 'alerts'; id: number; alert: AlertState }
  | { topic: 'entities'; skipped: number; standing: Standing; entities: EntityNow[] }
  | { topic: 'series'; skipped: number; series: NewPoints[] };

export interface Live {
  link: 'connecting' | 'live' | 'lost';
  /** When the connection was lost, and when it is tried again (ms). */
  lostAt: number;
  retryAt: number;
  /** How long the last gap was, for some seconds after it has healed (s); 0 = none. */
  healed: number;
  standing: Standing | null;
  entities: Map<string, EntityNow>;
  /** Updates that this page was too slow for. */
  skipped: number;
}

const known = (message: { standing: Standing; entities: EntityNow[] }): Pick<Live, 'standing' | 'entities'> => ({
  standing: message.standing,
  entities: new Map(message.entities.map((one) => [one[0], one])),
});

type OnAlert = (alert: AlertState) => void;
type OnPoints = (points: NewPoints) => void;

const WAITS = [500, 1000, 2000, 4000, 8000, 15000];
const SILENCE_MS = 8000;
const TOPICS = ['alerts', 'entities'];

export class LiveLink {
  state: Live = { link: 'connecting', lostAt: 0, retryAt: 0, healed: 0, standing: null, entities: new Map(), skipped: 0 };
  onAlert: OnAlert = () => {};
  onPoints: OnPoints = () => {};
  /** The connection is there again after a gap: what was missed is to be asked for. */
  onHeal: () => void = () => {};

  private readonly heard = new Set<() => void>();
  private readonly series = new Map<string, { pair: [string, string]; uses: number }>();
  private socket: WebSocket | null = null;
  private after: number | null = null;
  private tries = 0;
  private timer = 0;
  private watch = 0;
  /** Where no WebSocket has ever said anything, the stream of events is tried in turn. */
  private plain = false;
  private heardSocket = false;
  private endStream: (() => void) | null = null;
  private streamed = '';

  constructor(private readonly url = () => location.origin.replace(/^http/, 'ws') + '/ws') {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.heard.add(listener);
    return () => this.heard.delete(listener);
  };

  /** How all stood when the page was made, until the connection says more. */
  begin(message: { standing: Standing; entities: EntityNow[] } | undefined): void {
    if (message && !this.state.standing) this.set(known(message));
  }

  connect(): void {
    clearTimeout(this.timer);
    const old = this.socket;
    this.socket = null;
    old?.close();
    this.endStream?.();
    this.endStream = null;
    this.rewatch();
    if (this.plain) this.stream();
    else this.open();
  }

  private open(): void {
    const socket = new WebSocket(this.url());
    this.socket = socket;
    socket.onopen = () => this.ask();
    socket.onmessage = (event) => {
      if (socket !== this.socket) return;
      this.heardSocket = true;
      this.take(JSON.parse(String(event.data)) as Message);
    };
    socket.onclose = () => {
      if (socket === this.socket) this.lost();
    };
  }

  private stream(): void {
    const series = this.pairs();
    this.streamed = JSON.stringify(series);
    const end = openStream(
      { topics: TOPICS, series, after: this.after },
      {
        message: (text) => this.endStream === end && this.take(JSON.parse(text) as Message),
        closed: () => this.endStream === end && this.lost(),
      },
    );
    this.endStream = end;
  }

  private readonly pairs = (): [string, string][] => [...this.series.values()].map((one) => one.pair);

  /** Points of a series are wanted until the returned function is called. */
  want(entity: string, feature: string): () => void {
    const key = entity + feature;
    const known = this.series.get(key) ?? { pair: [entity, feature] as [string, string], uses: 0 };
    known.uses += 1;
    this.series.set(key, known);
    this.ask();
    return () => {
      known.uses -= 1;
      if (known.uses <= 0) this.series.delete(key);
      this.ask();
    };
  }

  private asking = false;

  /** Say what is wanted; once for all that changes in one go. */
  private ask(): void {
    if (this.asking) return;
    this.asking = true;
    queueMicrotask(() => {
      this.asking = false;
      if (this.endStream && this.streamed !== JSON.stringify(this.pairs())) {
        // A stream is asked once: for something else it is opened anew, and what came in between is asked for.
        this.endStream();
        this.stream();
        if (this.state.link === 'live') this.onHeal();
      }
      if (this.socket?.readyState !== WebSocket.OPEN) return;
      const message: Record<string, unknown> = { topics: TOPICS, series: this.pairs() };
      if (this.after !== null) message['after'] = this.after;
      if (token()) message['token'] = token();
      this.socket.send(JSON.stringify(message));
    });
  }

  private take(message: Message): void {
    this.rewatch();
    if (this.state.link !== 'live') {
      const gap = this.state.link === 'lost' ? (Date.now() - this.state.lostAt) / 1000 : 0;
      this.tries = 0;
      this.set({ link: 'live', healed: gap });
      if (gap) {
        this.onHeal();
        setTimeout(() => this.set({ healed: 0 }), 4000);
      }
    }
    if (message.topic === 'hello') this.after ??= message.id;
    else if (message.topic === 'alerts') {
      this.after = message.id;
      this.onAlert(message.alert);
    } else if (message.topic === 'entities') {
      this.set({ ...known(message), skipped: this.state.skipped + message.skipped });
    } else for (const one of message.series) this.onPoints(one);
  }

  /** A connection on which nothing comes is none: the server says something each second. */
  private rewatch(): void {
    clearTimeout(this.watch);
    this.watch = window.setTimeout(() => {
      const silent = this.socket;
      this.socket = null;
      silent?.close();
      this.endStream?.();
      this.lost();
    }, SILENCE_MS);
  }

  private lost(): void {
    clearTimeout(this.watch);
    clearTimeout(this.timer);
    this.endStream = null;
    if (!this.heardSocket) this.plain = !this.plain;
    const wait = WAITS[Math.min(this.tries, WAITS.length - 1)]!;
    this.tries += 1;
    const lostAt = this.state.link === 'live' ? Date.now() : this.state.lostAt || Date.now();
    const first = this.state.link === 'connecting' && this.tries < 2;
    this.set({ link: first ? 'connecting' : 'lost', lostAt, retryAt: Date.now() + wait });
    this.timer = window.setTimeout(() => this.connect(), wait);
  }

  private set(change: Partial<Live>): void {
    this.state = { ...this.state, ...change };
    for (const listener of this.heard) listener();
  }
}

export const live = new LiveLink();

/** What is known live, or the part of it that is asked for: only a change of that part draws anew. */
export function useLive(): Live;
export function useLive<T>(pick: (state: Live) => T): T;
export function useLive<T>(pick?: (state: Live) => T): Live | T {
  return useSyncExternalStore<Live | T>(live.subscribe, () => (pick ? pick(live.state) : live.state));
}

const STATUS = ['scored', 'warming_up', 'missing', 'stale', 'excluded'] as const;
export const MOST_POINTS = 1500;

/** The points with newer ones behind them; what is there already is not added again. */
export function extend(points: ChartPoints, more: NewPoints): ChartPoints {
  const last = points.time_unix_seconds.at(-1) ?? 0;
  const from = more.time_unix_seconds.findIndex((t) => t > last + 1e-6);
  if (from < 0) return points;
  const join = <T>(old: T[], now: T[]): T[] => [...old, ...now.slice(from)].slice(-MOST_POINTS);
  return {
    time_unix_seconds: join(points.time_unix_seconds, more.time_unix_seconds),
    value: join(points.value, more.value),
    least: join(points.least, more.value),
    most: join(points.most, more.value),
    expected: join(points.expected, more.expected),
    low: join(points.low, more.low),
    high: join(points.high, more.high),
    anomalous: join(points.anomalous, more.anomalous),
    status: join(points.status, more.status.map((code) => STATUS[code] ?? 'missing')),
  };
}

/** Ask for new points of these series while the caller is shown. */
export function useWanted(pairs: [string, string][]): void {
  const key = JSON.stringify(pairs);
  useEffect(() => {
    const done = (JSON.parse(key) as [string, string][]).map(([entity, feature]) => live.want(entity, feature));
    return () => done.forEach((end) => end());
  }, [key]);
}
