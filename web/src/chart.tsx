import { useEffect, useLayoutEffect, useRef, useState, type JSX } from 'react';
import uPlot from 'uplot';

import { colours, hatch, type Texture } from './canvas';
import { clock, isShare, moment, num, quantity, scale, span } from './format';
import { attach } from './gestures';
import { lastShown, moved } from './range';
import { useTheme } from './theme';
import type { ChartPoints, StatusName } from './types';

export interface ChartMark {
  at: number;
  text: string;
}

interface Props {
  points: ChartPoints;
  unit: string;
  feature: string;
  height: number;
  /** Times (Unix seconds) between which the series is anomalous. */
  anomalous?: [number, number][];
  marks?: ChartMark[];
  /** Charts of one group share their cursor and their range. */
  group?: string;
  thin?: boolean;
  /** Scaled to the band: what is far beyond it is cut off, and its peak printed. */
  clipped?: boolean;
  range?: [number, number] | null;
  onRange?: (range: [number, number] | null) => void;
  /** How far one can go back and forth, where that is further than the points; then wheel and pinch zoom too. */
  bounds?: [number, number];
  onCursor?: (index: number | null) => void;
  label: string;
  /** A dashed line with its name. */
  limit?: { at: number; text: string };
  axis?: boolean;
  /** The top of the scale, where it is not to follow what is shown. */
  top?: number;
}

/** Width of the numbers beside a chart: charts without them leave it free, so that all share their time axis. */
const AXIS = 60;

const finite = (v: number | null | undefined): v is number => v != null && Number.isFinite(v);

/** Stretches of one status, as times. */
export function stretches(points: ChartPoints): { kind: Texture; from: number; to: number }[] {
  const out: { kind: Texture; from: number; to: number }[] = [];
  const t = points.time_unix_seconds;
  const texture = (status: StatusName, v: number | null): Texture | null =>
    status === 'scored' ? (finite(v) ? null : 'missing') : status;
  for (let i = 0; i < t.length; i++) {
    const kind = texture(points.status[i]!, points.value[i] ?? null);
    if (!kind) continue;
    let j = i;
    while (j + 1 < t.length && texture(points.status[j + 1]!, points.value[j + 1] ?? null) === kind) j++;
    out.push({ kind, from: t[i]!, to: t[Math.min(t.length - 1, j + 1)]! });
    i = j;
  }
  return out;
}

/** What charts show as their top: round, and a little over what is shown. */
export function nice(v: number): number {
  if (!(v > 0)) return 1;
  const p = 10 ** Math.floor(Math.log10(v));
  for (const k of [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10]) if (v <= k * p * 1.0000001) return k * p;
  return 10 * p;
}

/** From 0 to a round number above all that is shown, or, where it is clipped, above the band; a share ends at its whole. */
export function yRange(points: ChartPoints, clipped: boolean, range: [number, number] | null = null, share = false): [number, number] {
  const inside = points.time_unix_seconds.map((t) => !range || (t >= range[0] && t <= range[1]));
  const shown = (values: (number | null)[]): number[] => values.filter((v, i): v is number => finite(v) && inside[i]!);
  const [highs, mosts, leasts] = [shown(points.high), shown(points.most), shown(points.least)];
  // A band is wide while it is young: what few points reach does not set the scale.
  const band = quantile(highs, 0.9);
  let top = clipped && highs.length ? Math.max(band * 1.5, Math.min(quantile(mosts, 0.9), band * 3)) : Math.max(0, ...mosts, band);
  if (top <= 0) top = Math.max(0, ...mosts);
  // What rounding leaves below nothing is nothing.
  const lowest = Math.min(0, ...leasts);
  const bottom = -lowest > top * 1e-6 ? lowest : 0;
  const whole = share && Math.max(0, ...mosts) <= 1;
  return [bottom < 0 ? -nice(-bottom * 1.06) : 0, whole ? Math.min(1, nice(1.06 * top)) : nice(1.06 * top)];
}

function quantile(values: number[], share: number): number {
  if (!values.length) return 0;
  return Float64Array.from(values).sort()[Math.min(values.length - 1, Math.floor(values.length * share))]!;
}

/** The observed series behind which stands what is expected; the anomalous part heavier, on a soft ground. */
export function BandChart(props: Props): JSX.Element {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const [width, setWidth] = useState(0);
  const theme = useTheme();
  const { height, thin, unit, feature, group, clipped, axis = true } = props;

  useLayoutEffect(() => {
    const element = host.current!;
    setWidth(element.clientWidth);
    if (typeof ResizeObserver === 'undefined') return;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    if (!width || !host.current) return;
    const c = colours();
    const made = new uPlot(options(latest, width, c), data(latest.current.points), host.current);
    plot.current = made;
    if (latest.current.range) made.setScale('x', xRange(latest.current));
    return () => {
      made.destroy();
      plot.current = null;
    };
    // The options read what changes from `latest`; only what changes their shape makes a new chart.
  }, [width, height, thin, unit, feature, group, clipped, theme, axis]);

  const { points, range } = props;
  useEffect(() => {
    const made = plot.current;
    if (!made) return;
    made.batch(() => {
      made.setData(data(points), false);
      made.setScale('x', xRange(latest.current));
    });
  }, [points]);

  useEffect(() => {
    plot.current?.setScale('x', xRange(latest.current));
  }, [range]);

  const anomalous = JSON.stringify(props.anomalous ?? []);
  useEffect(() => plot.current?.redraw(false), [anomalous]);

  return (
    <div
      ref={host}
      className="cv band"
      style={{ height }}
      role="img"
      aria-label={props.label}
      {...(thin ? {} : { tabIndex: 0, onKeyDown: (event) => keys(event, plot.current, latest.current) })}
    />
  );
}

function data(points: ChartPoints): uPlot.AlignedData {
  return [points.time_unix_seconds, points.high, points.low, points.value] as uPlot.AlignedData;
}

function xRange({ points, range }: Props): { min: number; max: number } {
  const t = points.time_unix_seconds;
  return range ? { min: range[0], max: range[1] } : { min: t[0] ?? 0, max: t.at(-1) ?? 1 };
}

function keys(event: React.KeyboardEvent, plot: uPlot | null, props: Props): void {
  if (!plot) return;
  const t = props.points.time_unix_seconds;
  const shown = xRange(props);
  const at = plot.cursor.idx ?? lastShown(t, [shown.min, shown.max]) ?? t.length - 1;
  const bounds = props.bounds ?? [t[0] ?? 0, t.at(-1) ?? 1];
  const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[event.key];
  if (event.shiftKey && step && props.onRange) {
    event.preventDefault();
    props.onRange(moved([shown.min, shown.max], Math.sign(step) * (Math.abs(step) > 1 ? 1 : 0.25)));
  } else if (step) {
    event.preventDefault();
    const to = Math.max(0, Math.min(t.length - 1, at + step));
    plot.setCursor({ left: plot.valToPos(t[to]!, 'x'), top: 10 });
  } else if ((event.key === '+' || event.key === '-') && props.onRange && t.length) {
    const middle = t[at] ?? (shown.min + shown.max) / 2;
    const half = ((shown.max - shown.min) / 2) * (event.key === '+' ? 0.5 : 2);
    const range: [number, number] = [Math.max(bounds[0], middle - half), Math.min(bounds[1], middle + half)];
    props.onRange(range[0] <= bounds[0] && range[1] >= bounds[1] ? null : range);
  } else if (event.key === 'Escape') props.onRange?.(null);
}

function options(latest: { current: Props }, width: number, c: ReturnType<typeof colours>): uPlot.Options {
  const { height, thin, unit, feature, group, axis = true } = latest.current;
  const font = `12px ${c.sans}`;
  const small = height < 120;
  return {
    width,
    height,
    legend: { show: false },
    padding: [thin ? 6 : 14, 16, thin && !axis ? 2 : 0, axis ? 0 : AXIS],
    cursor: {
      y: false,
      points: { size: 7, width: 2, stroke: () => c.ink, fill: () => c.surface },
      drag: { x: !!latest.current.onRange, y: false, setScale: false },
      ...(group ? { sync: { key: group, setSeries: false } } : {}),
    },
    select: { show: true, left: 0, top: 0, width: 0, height: 0 },
    scales: {
      x: { time: true, range: (_u, min, max) => [min, max] },
      y: {
        range: () => {
          const { points, clipped, range, top } = latest.current;
          return top ? [0, top] : yRange(points, !!clipped, range, isShare(latest.current.unit, latest.current.feature));
        },
      },
    },
    axes: [
      {
        show: axis,
        stroke: c['ink-3'],
        font,
        size: 24,
        gap: 4,
        grid: { show: false },
        ticks: { show: false },
        border: { show: true, stroke: c['line-strong'], width: 1 },
        space: 80,
        values: (u, splits) => {
          const wide = (u.scales['x']!.max ?? 0) - (u.scales['x']!.min ?? 0);
          return splits.map((t) => axisTime(t * 1000, wide));
        },
      },
      {
        show: axis,
        stroke: c['ink-3'],
        font,
        size: AXIS,
        gap: 6,
        grid: { stroke: c.grid, width: 1 },
        ticks: { show: false },
        splits: (u) => {
          const [low, high] = [u.scales['y']!.min ?? 0, u.scales['y']!.max ?? 1];
          const parts = small ? 2 : 4;
          return Array.from({ length: parts + 1 }, (_, i) => low + ((high - low) * i) / parts);
        },
        values: (_u, splits) => {
          const top = splits.at(-1) ?? 1;
          const { factor } = scale(unit, feature, top);
          return splits.map((v, i) =>
            i === splits.length - 1 ? quantity(v, unit, feature) : small && i > 0 ? '' : num(v / factor),
          );
        },
      },
    ],
    series: [
      {},
      { stroke: c['band-edge'], width: 1, points: { show: false } },
      { stroke: c['band-edge'], width: 1, points: { show: false } },
      { stroke: c.trace, width: thin ? 1.25 : 1.5, points: { show: false }, spanGaps: false },
    ],
    bands: [{ series: [1, 2], fill: c.band }],
    hooks: {
      drawClear: [(u) => ground(u, latest.current)],
      // Behind the line (3), before the band (1, 2).
      drawSeries: [(u, i) => (i === 2 && !thin ? reach(u, latest.current.points) : undefined)],
      draw: [(u) => foreground(u, latest.current)],
      setCursor: [(u) => latest.current.onCursor?.(u.cursor.left != null && u.cursor.left >= 0 ? (u.cursor.idx ?? null) : null)],
      setSelect: [
        (u) => {
          const onRange = latest.current.onRange;
          if (!onRange || u.select.width < 8) return;
          onRange([u.posToVal(u.select.left, 'x'), u.posToVal(u.select.left + u.select.width, 'x')]);
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
      ready: [(u) => ready(u, latest)],
    },
  };
}

function ready(u: uPlot, latest: { current: Props }): void {
  u.over.addEventListener('dblclick', () => latest.current.onRange?.(null));
  if (!latest.current.bounds) return;
  attach(u.over, {
    range: () => [u.scales['x']!.min ?? 0, u.scales['x']!.max ?? 1],
    set: (range) => latest.current.onRange?.(range),
    at: (left) => u.posToVal(left, 'x'),
  });
}

/** A time of day, or the day where a long range passes midnight. */
export function axisTime(ms: number, wide: number): string {
  if (wide < 300) return clock(ms);
  const midnight = new Date(ms).getHours() === 0 && new Date(ms).getMinutes() === 0;
  return wide > 72_000 && midnight ? moment(ms, false).replace(/ 00:00$/, '') : clock(ms, false);
}

/** Behind the line of buckets: what they reach from the least to the most. */
function reach(u: uPlot, points: ChartPoints): void {
  const { least, most, value, time_unix_seconds: t } = points;
  if (!value.some((v, i) => finite(v) && finite(most[i]) && finite(least[i]) && most[i]! > least[i]!)) return;
  const g = u.ctx;
  const { left, top, width, height } = u.bbox;
  const X = (at: number): number => u.valToPos(at, 'x', true);
  const Y = (v: number): number => u.valToPos(v, 'y', true);
  g.save();
  g.beginPath();
  g.rect(left, top, width, height);
  g.clip();
  g.fillStyle = colours().quiet;
  g.globalAlpha = 0.55;
  for (let i = 0; i < t.length; i++) {
    if (!finite(most[i]) || !finite(least[i])) continue;
    let j = i;
    while (j + 1 < t.length && finite(most[j + 1]) && finite(least[j + 1])) j++;
    g.beginPath();
    for (let k = i; k <= j; k++) g.lineTo(X(t[k]!), Y(most[k]!));
    for (let k = j; k >= i; k--) g.lineTo(X(t[k]!), Y(least[k]!));
    g.fill();
    i = j;
  }
  g.restore();
}

/** Behind the line: where it is anomalous, and where nothing is known. */
function ground(u: uPlot, props: Props): void {
  const c = colours();
  const g = u.ctx;
  const { left, top, width, height } = u.bbox;
  const unit = devicePixelRatio || 1;
  const X = (t: number): number => u.valToPos(t, 'x', true);
  g.save();
  g.beginPath();
  g.rect(left, top, width, height);
  g.clip();
  for (const [from, to] of props.anomalous ?? []) {
    g.fillStyle = c['fire-soft'];
    g.fillRect(X(from), top, Math.max(2, X(to) - X(from)), height);
    g.fillStyle = c['fire-mark'];
    g.fillRect(Math.round(X(from)), top, unit, height);
  }
  for (const one of stretches(props.points)) hatch(g, X(one.from), top, X(one.to) - X(one.from), height, one.kind, unit);
  g.restore();
}

/** Over the line: the anomalous part heavier, changes, limits, the peak of what is cut off. */
function foreground(u: uPlot, props: Props): void {
  const c = colours();
  const g = u.ctx;
  const { left, top, width, height } = u.bbox;
  const unit = devicePixelRatio || 1;
  const { points } = props;
  const t = points.time_unix_seconds;
  const X = (v: number): number => u.valToPos(v, 'x', true);
  const Y = (v: number): number => u.valToPos(v, 'y', true);
  g.save();
  g.beginPath();
  g.rect(left, top - 14 * unit, width, height + 14 * unit);
  g.clip();
  g.strokeStyle = c['fire-mark'];
  g.lineWidth = (props.thin ? 2 : 2.5) * unit;
  g.lineJoin = 'round';
  for (const [from, to] of props.anomalous ?? []) {
    g.beginPath();
    let pen = false;
    for (let i = 0; i < t.length; i++) {
      const v = points.value[i];
      if (t[i]! < from || t[i]! > to || !finite(v)) {
        pen = false;
        continue;
      }
      if (pen) g.lineTo(X(t[i]!), Math.max(top, Y(v)));
      else g.moveTo(X(t[i]!), Math.max(top, Y(v)));
      pen = true;
    }
    g.stroke();
  }
  g.font = `${12 * unit}px ${c.sans}`;
  g.textBaseline = 'middle';
  if (props.limit) {
    g.strokeStyle = g.fillStyle = c['ink-3'];
    g.lineWidth = unit;
    g.setLineDash([4 * unit, 4 * unit]);
    const y = Y(props.limit.at);
    g.beginPath();
    g.moveTo(left, y);
    g.lineTo(left + width, y);
    g.stroke();
    g.setLineDash([]);
    if (props.limit.text) g.fillText(props.limit.text, left + 8 * unit, y - 9 * unit);
  }
  for (const mark of props.marks ?? []) {
    const x = Math.round(X(mark.at)) + 0.5;
    if (x < left || x > left + width) continue;
    g.strokeStyle = g.fillStyle = c['ink-2'];
    g.lineWidth = unit;
    g.setLineDash([3 * unit, 3 * unit]);
    g.beginPath();
    g.moveTo(x, props.thin ? top : top - 4 * unit);
    g.lineTo(x, top + height);
    g.stroke();
    g.setLineDash([]);
    if (props.thin) continue;
    g.beginPath();
    g.moveTo(x - 4 * unit, top - 12 * unit);
    g.lineTo(x + 4 * unit, top - 12 * unit);
    g.lineTo(x, top - 5 * unit);
    g.fill();
    const right = x > left + width - 140 * unit;
    g.textAlign = right ? 'right' : 'left';
    g.fillText(mark.text, x + (right ? -8 : 8) * unit, top - 7 * unit);
  }
  if (props.clipped) peaks(u, props, g, unit);
  g.restore();
}

function peaks(u: uPlot, props: Props, g: CanvasRenderingContext2D, unit: number): void {
  const c = colours();
  const { left, top, width } = u.bbox;
  const ceiling = u.scales['y']!.max ?? Infinity;
  const { most, time_unix_seconds: t } = props.points;
  let printed = -Infinity;
  const room = 140 * unit;
  for (let i = 0; i < t.length; i++) {
    if (!((most[i] ?? -Infinity) > ceiling)) continue;
    const x = u.valToPos(t[i]!, 'x', true);
    if (x < left || x > left + width || x - printed < room) continue;
    // One label speaks for all peaks that it would cover.
    let peak = 0;
    for (let j = i; j < t.length && u.valToPos(t[j]!, 'x', true) - x < room; j++) peak = Math.max(peak, most[j] ?? 0);
    printed = x;
    const right = x > left + width - 120 * unit;
    const text = '▲ up to ' + quantity(peak, props.unit, props.feature);
    g.font = `600 ${12 * unit}px ${c.sans}`;
    g.textAlign = right ? 'right' : 'left';
    g.strokeStyle = c.surface;
    g.lineWidth = 5 * unit;
    g.strokeText(text, x + (right ? -8 : 8) * unit, top + 24 * unit);
    g.fillStyle = c.fire;
    g.fillText(text, x + (right ? -8 : 8) * unit, top + 24 * unit);
  }
}

/** What the cursor stands on, in words: time, observed, expected. */
export function reading(points: ChartPoints, index: number | null, unit: string, feature: string): [string, string, string] {
  const i = index ?? points.time_unix_seconds.length - 1;
  const at = points.time_unix_seconds[i];
  if (at === undefined) return ['–', 'nothing yet', 'not known yet'];
  return [
    moment(at * 1000),
    quantity(points.value[i], unit, feature),
    span(points.low[i] ?? null, points.high[i] ?? null, unit, feature),
  ];
}
