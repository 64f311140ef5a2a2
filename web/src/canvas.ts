/** What is drawn by hand: textures for not knowing, sparklines, the strip of all entities. */

import type { ChartPoints, StatusName } from './types';

const NAMES = ['bg', 'surface', 'sunken', 'line', 'line-strong', 'control', 'ink', 'ink-2', 'ink-3', 'fire', 'fire-mark', 'fire-soft', 'risk', 'risk-mark', 'band', 'band-edge', 'grid', 'trace', 'quiet', 'busy'] as const;
export type Colours = Record<(typeof NAMES)[number] | 'sans', string>;

let known: Colours | null = null;

/** The colours of the theme in force, read once a theme. */
export function colours(): Colours {
  if (known) return known;
  const style = getComputedStyle(document.documentElement);
  const read = (name: string): string => style.getPropertyValue('--' + name).trim();
  known = Object.fromEntries([...NAMES, 'sans'].map((name) => [name, read(name)])) as Colours;
  return known;
}

export const forgetColours = (): void => {
  known = null;
};

export type Texture = 'missing' | 'excluded' | 'warming_up' | 'stale';

/** A canvas of this size in CSS pixels, cleared. */
export function fit(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D | null {
  const ratio = Math.max(1, devicePixelRatio || 1);
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  // To set a size, be it the same, makes the canvas anew.
  if (canvas.width !== wide) canvas.width = wide;
  if (canvas.height !== high) canvas.height = high;
  const g = canvas.getContext('2d');
  if (!g) return null;
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  g.lineWidth = 1;
  g.lineJoin = 'miter';
  return g;
}

/** The ways of not knowing, each with a texture of its own; `unit` = device pixels of a CSS pixel. */
export function hatch(g: CanvasRenderingContext2D, x: number, y: number, w: number, h: number, kind: Texture, unit = 1): void {
  if (w <= 0) return;
  const c = colours();
  g.save();
  g.beginPath();
  g.rect(x, y, w, h);
  g.clip();
  g.strokeStyle = g.fillStyle = c.control;
  g.lineWidth = unit;
  g.beginPath();
  if (kind === 'missing') {
    for (let i = -h; i < w; i += 5 * unit) {
      g.moveTo(x + i, y + h);
      g.lineTo(x + i + h, y);
    }
    g.stroke();
  } else if (kind === 'excluded') {
    for (let j = 3.5 * unit; j < h; j += 4 * unit) {
      g.moveTo(x, Math.round(y + j) + 0.5);
      g.lineTo(x + w, Math.round(y + j) + 0.5);
    }
    g.stroke();
  } else if (kind === 'warming_up') {
    for (let i = 3 * unit; i < w; i += 5 * unit)
      for (let j = (h / 2) % (5 * unit); j < h; j += 5 * unit)
        if (h > 12 * unit || Math.abs(j - h / 2) < 3 * unit) {
          g.beginPath();
          g.arc(x + i, y + j, 0.9 * unit, 0, 7);
          g.fill();
        }
  } else {
    g.setLineDash([2 * unit, 3 * unit]);
    g.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
  }
  g.restore();
}

export type Swatch = 'quiet' | 'busy' | 'anom' | 'band' | Texture;

/** A small sample of a texture, for keys. */
export function swatch(canvas: HTMLCanvasElement, kind: Swatch): void {
  const g = fit(canvas, 24, 12);
  if (!g) return;
  const c = colours();
  const bars = (heights: number[], colour: string): void => {
    g.fillStyle = colour;
    heights.forEach((h, i) => g.fillRect(i * 6, 6 - h / 2, 4, h));
  };
  if (kind === 'quiet') bars([3, 4, 2, 3], c.quiet);
  else if (kind === 'busy') bars([8, 7, 9, 8], c.busy);
  else if (kind === 'anom') bars([12, 12, 12, 12], c['fire-mark']);
  else if (kind === 'band') {
    g.fillStyle = c.band;
    g.fillRect(0, 0, 24, 12);
    g.strokeStyle = c['band-edge'];
    g.beginPath();
    g.moveTo(0, 0.5);
    g.lineTo(24, 0.5);
    g.moveTo(0, 11.5);
    g.lineTo(24, 11.5);
    g.stroke();
  } else hatch(g, 0, 0, 24, 12, kind);
}

const finite = (v: number | null | undefined): v is number => v != null && Number.isFinite(v);

/** A sparkline: band, trace, the anomalous part heavier, a dot at its end; a triangle where it is off the scale. */
export function spark(canvas: HTMLCanvasElement, points: ChartPoints, since: number, width: number, height: number): void {
  const g = fit(canvas, width, height);
  const n = points.value.length;
  if (!g || n < 2) return;
  const c = colours();
  const y = points.value;
  const known = y.filter(finite);
  const highs = points.high.filter(finite);
  const lows = points.low.filter(finite);
  if (!known.length) return;
  const bandHigh = highs.length ? median(highs) : Math.max(...known);
  const bandLow = lows.length ? median(lows) : Math.min(...known);
  const reach = bandHigh - bandLow || Math.abs(bandHigh) || 1;
  const top = Math.max(bandHigh + reach * 0.5, Math.min(Math.max(...known) + reach * 0.2, bandHigh + reach * 2.4));
  const bottom = Math.min(bandLow - reach * 0.5, Math.max(Math.min(...known), bandLow - reach * 2));
  const X = (i: number): number => 2 + (i / (n - 1)) * (width - 10);
  const Y = (v: number): number => height - 4 - ((Math.max(bottom, Math.min(v, top)) - bottom) / (top - bottom || 1)) * (height - 8);
  g.fillStyle = c.band;
  for (let i = 0; i < n - 1; i++) {
    const [h, l] = [points.high[i], points.low[i]];
    if (finite(h) && finite(l)) g.fillRect(X(i), Y(h), X(i + 1) - X(i) + 0.5, Math.max(1, Y(l) - Y(h)));
  }
  const line = (from: number, colour: string, wide: number): void => {
    g.strokeStyle = colour;
    g.lineWidth = wide;
    g.lineJoin = 'round';
    g.beginPath();
    let pen = false;
    for (let i = 0; i < n; i++) {
      const v = y[i];
      if (!finite(v) || points.time_unix_seconds[i]! < from) {
        pen = false;
        continue;
      }
      if (pen) g.lineTo(X(i), Y(v));
      else g.moveTo(X(i), Y(v));
      pen = true;
    }
    g.stroke();
  };
  line(0, c.trace, 1.25);
  if (since) line(since, c['fire-mark'], 2);
  const end = y[n - 1];
  if (!finite(end)) return;
  g.fillStyle = since ? c['fire-mark'] : c.trace;
  g.beginPath();
  if (end > top) {
    const x = X(n - 1) + 1;
    g.moveTo(x, 0);
    g.lineTo(x + 4.5, 7);
    g.lineTo(x - 4.5, 7);
  } else g.arc(X(n - 1), Y(end), 2.5, 0, 7);
  g.fill();
}

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** One entity of the strip: score ÷ bar of each minute, or why there is none. */
export interface StripLine {
  name: string;
  ratio: (number | null)[];
  minutes: (StatusName | null)[];
  alarmed: Set<number>;
}

export interface StripMark {
  minute: number;
  text: string;
}

export const ROW = 24;
const TOP = 20;
export const stripHeight = (rows: number, row = ROW): number => TOP + rows * row + 24;

/** The strip: one trace a row, like a seismogram; height is strength, so colour is not needed to read it. */
export function drawStrip(
  canvas: HTMLCanvasElement,
  rows: StripLine[],
  width: number,
  lastMs: number,
  end: string,
  label: (ms: number) => string,
  marks: StripMark[] = [],
  row = ROW,
): number {
  const height = stripHeight(rows.length, row);
  const g = fit(canvas, width, height);
  const all = rows[0]?.ratio.length ?? 0;
  if (!g || !all) return 0;
  const c = colours();
  // On a phone three minutes are one column.
  const step = width > 560 ? 1 : 3;
  const n = Math.floor(all / step);
  const wide = width / n;
  g.font = `12px ${c.sans}`;
  g.textBaseline = 'middle';
  const firstMs = lastMs - (all - 1) * 60e3;
  const X = (ms: number): number => ((ms - firstMs) / (all * 60e3)) * width;
  for (let t = Math.ceil(firstMs / 1800e3) * 1800e3; t <= lastMs; t += 1800e3) {
    const x = Math.round(X(t)) + 0.5;
    g.strokeStyle = c.grid;
    g.beginPath();
    g.moveTo(x, TOP);
    g.lineTo(x, height - 20);
    g.stroke();
    g.fillStyle = c['ink-3'];
    g.textAlign = 'center';
    if (x > 20 && x < width - 52 && (width > 560 || t % 3600e3 === 0)) g.fillText(label(t), x, height - 8);
  }
  g.textAlign = 'right';
  g.fillStyle = c['ink-2'];
  g.fillText(end, width, height - 8);
  rows.forEach((line, r) => {
    const y = TOP + r * row;
    const middle = y + row / 2;
    const first = line.minutes.findIndex((one) => one !== null);
    const cell = (i: number): { kind: Texture | 'value' | 'nothing'; v: number; hot: boolean } => {
      let v = -1;
      let hot = false;
      let kind: Texture | 'value' | 'nothing' = 'nothing';
      for (let j = i * step; j < (i + 1) * step; j++) {
        const status = line.minutes[j] ?? null;
        const ratio = line.ratio[j];
        hot ||= line.alarmed.has(j);
        if (status === 'scored' && finite(ratio)) {
          kind = 'value';
          v = Math.max(v, ratio);
        } else if (kind === 'nothing') {
          if (status === null) kind = first >= 0 && j > first && j < all - 2 ? 'missing' : 'nothing';
          else kind = status === 'scored' ? 'warming_up' : status;
        }
      }
      return { kind, v, hot };
    };
    for (let i = 0; i < n; i++) {
      const here = cell(i);
      const x = i * wide;
      if (here.kind === 'value') {
        const tall = row < 12 ? row - 2 : 18;
        const h = Math.max(2, Math.min(tall, here.v >= 1 ? tall * 0.55 + (here.v - 1) * 3.4 : here.v * tall * 0.6));
        g.fillStyle = here.hot ? c['fire-mark'] : here.v >= 0.6 ? c.busy : c.quiet;
        g.fillRect(Math.round(x) + 0.5, Math.round(middle - h / 2), Math.max(1.5, wide - (wide > 4 ? 2 : 1)), Math.round(h));
      } else if (here.kind !== 'nothing') {
        let j = i;
        while (j + 1 < n && cell(j + 1).kind === here.kind) j++;
        hatch(g, x, y + 4, (j - i + 1) * wide, Math.max(4, row - 8), here.kind);
        i = j;
      }
    }
  });
  for (const mark of marks) {
    const x = Math.round((mark.minute + 0.5) * (width / all)) + 0.5;
    g.strokeStyle = c['ink-3'];
    g.setLineDash([3, 3]);
    g.beginPath();
    g.moveTo(x, 14);
    g.lineTo(x, height - 20);
    g.stroke();
    g.setLineDash([]);
    g.fillStyle = c['ink-2'];
    g.beginPath();
    g.moveTo(x - 4, 6);
    g.lineTo(x + 4, 6);
    g.lineTo(x, 13);
    g.fill();
    g.textAlign = x > width - 120 ? 'right' : 'left';
    if (width > 500) g.fillText(mark.text, x + (x > width - 120 ? -8 : 8), 8);
  }
  return n;
}

export const STRIP_TOP = TOP;
