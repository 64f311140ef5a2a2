import { useEffect, useLayoutEffect, useRef, useState, type JSX, type ReactNode } from 'react';

import { ApiError } from './api';
import { spark, swatch, type Swatch } from './canvas';
import { alertEntity, duration, featureName, moment, quantity, span, utc } from './format';
import { Mark, type MarkName } from './marks';
import { useChart, useOpen } from './queries';
import { alertPath } from './router';
import { useTheme } from './theme';
import type { AlertState, Chart, ChartPoints } from './types';

/** A local time, UTC on hover. */
export function Time({ at, seconds = true }: { at: number; seconds?: boolean }): JSX.Element {
  if (!Number.isFinite(at)) return <span>–</span>;
  return (
    <time dateTime={new Date(at).toISOString()} title={utc(at)}>
      {moment(at, seconds)}
    </time>
  );
}

export function Panel(props: { title: ReactNode; aside?: ReactNode; right?: ReactNode; className?: string; children: ReactNode }): JSX.Element {
  return (
    <section className={`panel ${props.className ?? ''}`}>
      <header>
        <h2>{props.title}</h2>
        {props.aside && <span className="mute">{props.aside}</span>}
        {props.right && <div className="r">{props.right}</div>}
      </header>
      {props.children}
    </section>
  );
}

export function Seg<T extends string>(props: { label: string; value: T; choices: [T, string][]; onChoose: (value: T) => void }): JSX.Element {
  return (
    <span className={props.choices.length > 4 ? 'seg many' : 'seg'} role="group" aria-label={props.label}>
      {props.choices.map(([value, text]) => (
        <button key={value} type="button" aria-pressed={value === props.value} onClick={() => props.onChoose(value)}>
          {text}
        </button>
      ))}
    </span>
  );
}

export function Sk({ w = '100%', h = 12 }: { w?: string; h?: number }): JSX.Element {
  return <div className="sk" style={{ width: w, height: h }} />;
}

/** Nothing for a moment, then the shape of what is to come. */
export function Loading({ children }: { children: ReactNode }): JSX.Element | null {
  const [shown, setShown] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setShown(true), 150);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div aria-busy="true">
      <span className="vh" role="status">
        Loading
      </span>
      {shown ? children : null}
    </div>
  );
}

export const SkeletonRows = ({ rows = 5 }: { rows?: number }): JSX.Element => (
  <div className="body sk-rows">
    {Array.from({ length: rows }, (_, i) => (
      <div key={i}>
        <Sk w="30%" />
        <Sk w="60%" />
      </div>
    ))}
  </div>
);

/** One panel fails alone and says what still works. */
export function Failed({ what, error, still, again }: { what: string; error: unknown; still: string; again: () => void }): JSX.Element {
  const said = error instanceof ApiError ? error.message : 'The server did not answer.';
  return (
    <div className="failed" role="alert">
      <p>
        <Mark name="no" tint="fire" />
      </p>
      <p>
        <b>{what} could not be loaded</b>
      </p>
      <p className="soft">
        {said} {still}
      </p>
      <button className="btn" type="button" onClick={again}>
        Try again
      </button>
    </div>
  );
}

export function KeySwatch({ kind }: { kind: Swatch }): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const theme = useTheme();
  useEffect(() => {
    if (canvas.current) swatch(canvas.current, kind);
  }, [kind, theme]);
  return <canvas ref={canvas} aria-hidden="true" />;
}

export function Spark({ points, since = 0, height = 36 }: { points: ChartPoints | undefined; since?: number; height?: number }): JSX.Element {
  const [canvas, width] = useWidth<HTMLCanvasElement>();
  const theme = useTheme();
  useEffect(() => {
    if (canvas.current && points && width) spark(canvas.current, last(points, 360), since, width, height);
  }, [canvas, points, since, width, height, theme]);
  return <canvas ref={canvas} aria-hidden="true" style={{ height }} />;
}

/** The last points. */
export function last(points: ChartPoints, n: number): ChartPoints {
  const cut = Object.entries(points).map(([name, values]) => [name, (values as unknown[]).slice(-n)]);
  return Object.fromEntries(cut) as ChartPoints;
}

/** How wide an element is, kept up to date. */
export function useWidth<T extends HTMLElement>(): [React.RefObject<T | null>, number] {
  const ref = useRef<T>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return;
    setWidth(element.clientWidth);
    if (typeof ResizeObserver === 'undefined') return;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}

const numberOf = (alert: AlertState, name: string): number | null => {
  const text = alert.annotations[name];
  return text === undefined ? null : Number(text);
};

/** What an alert says, in numbers: observed, expected. */
export function figures(alert: AlertState): { observed: string; expected: string } {
  const unit = alert.annotations['unit'] ?? '';
  const feature = alert.labels['feature'] ?? '';
  const observed = numberOf(alert, 'observed');
  return {
    observed: observed === null ? '' : quantity(observed, unit, feature),
    expected: span(numberOf(alert, 'expected_low'), numberOf(alert, 'expected_high'), unit, feature),
  };
}

export const startOf = (alert: AlertState): number => Date.parse(alert.startsAt);
export const endOf = (alert: AlertState): number | null => (alert.status === 'resolved' ? Date.parse(alert.endsAt) : null);

/** Where the alert says that it was anomalous: from its start to its end, or to now. */
export const anomalousPart = (alert: AlertState, chart: Chart): [number, number][] => {
  const start = startOf(alert) / 1000;
  const end = endOf(alert);
  const newest = chart.points.time_unix_seconds.at(-1) ?? start;
  return [[start, end === null ? Math.max(newest, start) : end / 1000]];
};

export const announced = (alert: AlertState): boolean => alert.foreshock.notified === true;

/** Whether an open alert was announced, or belongs to a group of which one was. */
export function loudOf(open: AlertState[]): (alert: AlertState) => boolean {
  const groups = new Set(open.filter((one) => announced(one) && one.foreshock.group).map((one) => one.foreshock.group));
  return (one) => one.foreshock.kind !== 'change' && (announced(one) || (one.status === 'firing' && groups.has(one.foreshock.group)));
}

/** Severity by shape: announced alerts are filled, others hollow, slow changes a triangle of their own. */
export function markOf(alert: AlertState, loud: boolean): MarkName {
  if (alert.status === 'resolved') return 'good';
  if (alert.foreshock.kind === 'silence') return 'missing';
  if (alert.foreshock.kind === 'change') return 'change';
  return loud ? 'fire' : 'small';
}

const WORDS: Record<string, string> = { fire: 'announced', small: 'not announced', good: 'resolved', missing: 'silent', change: 'slow change' };

export function AlertRow({ alert, sparks = true }: { alert: AlertState; sparks?: boolean }): JSX.Element {
  const { entity, feature, episode } = alert.foreshock;
  const chart = useChart(sparks ? entity : undefined, feature);
  const { observed, expected } = figures(alert);
  const start = startOf(alert);
  const end = endOf(alert);
  const open = useOpen();
  const loud = loudOf(open.data ?? [])(alert) || announced(alert);
  const mark = markOf(alert, loud);
  const hot = mark === 'fire' || (mark === 'missing' && loud);
  const current = end === null ? newest(chart.data?.points) : null;
  const value = current === null ? observed : quantity(current, chart.data?.unit, chart.data?.feature);
  return (
    <a className={sparks ? 'alert' : 'alert plain'} href={alertPath(episode)}>
      <Mark name={mark} label={mark === 'fire' && !announced(alert) ? 'announced with its group' : (WORDS[mark] ?? '')} {...(mark === 'missing' ? { tint: 'fire' } : {})} />
      <div>
        <div className="w">
          <span className="ef">
            <span className="e">{alertEntity(alert.labels)}</span>
            <span className="f">{alert.foreshock.kind === 'silence' ? '' : featureName(alert.labels['feature'])}</span>
          </span>
          <span className="t">
            {end === null ? <span className="since">since </span> : null}
            <Time at={start} />
            {end !== null && `, ${duration((end - start) / 1000)}`}
          </span>
        </div>
        <div className="v">
          {alert.foreshock.kind === 'silence' ? (
            <b className={end === null && hot ? 'fire' : ''}>{end === null ? 'sends nothing' : 'sent nothing'}</b>
          ) : alert.foreshock.kind === 'change' ? (
            'a course that it has not taken before'
          ) : observed ? (
            <>
              <b className={end === null && hot ? 'fire' : ''}>{value}</b>, expected {expected}
            </>
          ) : (
            'unusual together'
          )}
        </div>
      </div>
      {sparks && <Spark points={chart.data?.points} since={end === null && hot ? start / 1000 : 0} />}
    </a>
  );
}

/** The newest value that is known of the last few. */
export function newest(points: ChartPoints | undefined): number | null {
  return points?.value.slice(-3).findLast((v) => v !== null) ?? null;
}

/** How much of a budget is used: squares where they can be counted, else words. */
export function Slots({ used, of }: { used: number; of: number }): JSX.Element | null {
  if (of > 10 || !Number.isInteger(of)) return null;
  return (
    <span className="slots" role="img" aria-label={`${used} of ${of} notifications used`}>
      {Array.from({ length: of }, (_, i) => (
        <i key={i} className={i < used ? 'on' : ''} />
      ))}
    </span>
  );
}
