import { memo, useEffect, useMemo, useRef, useState, type JSX, type KeyboardEvent, type PointerEvent } from 'react';

import { drawStrip, ROW, STRIP_TOP, stripHeight, type StripLine } from './canvas';
import { alertEntity, clock, entityName, NB } from './format';
import { Mark, type MarkName } from './marks';
import { KeySwatch, loudOf, useWidth } from './parts';
import { explorePath } from './router';
import { useTheme } from './theme';
import type { AlertState, ControlRecord, StripRow, StripView } from './types';

/** Beyond so many rows those that are as usual are folded away. */
const MOST_ROWS = 24;
const PLAIN: Record<string, string> = {
  missing: 'missing: nothing arrived', warming_up: 'warming up', excluded: 'excluded: not judged', stale: 'stale',
};

/** How far it stood out in the last hour. */
const recent = (row: StripRow): number => row.ratio.slice(-60).reduce<number>((most, one) => Math.max(most, one ?? 0), 0);

/** Those that alarm now first, then those that did, then by the highest strength. */
export function sortRows(rows: StripRow[], hot: Set<string>): StripRow[] {
  const rank = (row: StripRow): number => (hot.has(entityName(row.labels)) ? 4 : row.alarmed.some((one) => one >= row.minutes.length - 10) ? 2 : 'client' in row.labels ? 0 : 1);
  const ranked = rows.map((row) => ({ row, rank: rank(row), recent: recent(row) }));
  return ranked.sort((a, b) => b.rank - a.rank || b.recent - a.recent || a.row.entity.localeCompare(b.row.entity)).map((one) => one.row);
}

export const StripPanel = memo(function StripPanel({ strip, open, deploys, end }: { strip: StripView; open: AlertState[]; deploys: ControlRecord[]; end: string }): JSX.Element {
  const [host, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const theme = useTheme();
  const [all, setAll] = useState(false);
  const [at, setAt] = useState<{ row: number; minute: number } | null>(null);
  const hot = useMemo(() => new Set(open.filter(loudOf(open)).map((one) => alertEntity(one.labels))), [open]);
  const sorted = useMemo(() => sortRows(strip.rows, hot), [strip, hot]);
  const rows = all ? sorted : sorted.slice(0, MOST_ROWS);
  const folded = sorted.length - rows.length;
  const lastMs = strip.last_unix_seconds * 1000;
  const lines = useMemo<StripLine[]>(
    () => rows.map((row) => ({ name: entityName(row.labels), ratio: row.ratio, minutes: row.minutes, alarmed: new Set(row.alarmed) })),
    [rows],
  );
  const marks = useMemo(
    () =>
      deploys.flatMap((one) => {
        const minute = strip.minutes - 1 - Math.floor((lastMs - one.effective_unix_nano / 1e6) / 60e3);
        return minute > 0 && minute < strip.minutes ? [{ minute, text: one.comment || Object.values(one.matchers ?? {}).join(' ') || 'deploy' }] : [];
      }),
    [deploys, strip, lastMs],
  );
  useEffect(() => {
    if (canvas.current && width) drawStrip(canvas.current, lines, width, lastMs, end, (ms) => clock(ms, false), marks);
  }, [lines, width, lastMs, end, theme, marks]);

  const minutes = strip.minutes;
  const point = (event: PointerEvent<HTMLDivElement>): void => {
    const box = event.currentTarget.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top - STRIP_TOP) / ROW);
    const minute = Math.floor(((event.clientX - box.left) / box.width) * minutes);
    setAt(row >= 0 && row < rows.length && minute >= 0 && minute < minutes ? { row, minute } : null);
  };
  const keys = (event: KeyboardEvent): void => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    const from = at ?? { row: 0, minute: minutes - 1 };
    setAt({
      row: Math.max(0, Math.min(rows.length - 1, from.row + step[0]!)),
      minute: Math.max(0, Math.min(minutes - 1, from.minute + step[1]!)),
    });
  };
  return (
    <section className="panel live hist">
      <header>
        <h2>Every entity, last 3{NB}h</h2>
        <span className="mute hide-phone">Height is strength: how far the score stands from its bar. One column is 1{NB}min.</span>
      </header>
      <div className="strip">
        <div className="names">
          {rows.map((row) => (
            <a key={row.entity} href={explorePath(row.entity)} className={hot.has(entityName(row.labels)) ? 'hot' : ''} title={row.entity}>
              <Mark name={markFor(row, hot)} />
              <span className="cut">{entityName(row.labels)}</span>
            </a>
          ))}
        </div>
        <div
          className="cv"
          ref={host}
          tabIndex={0}
          role="img"
          aria-label="Strength of every entity over the last 3 hours. Arrow keys read single minutes."
          style={{ height: stripHeight(rows.length) }}
          onPointerMove={point}
          onPointerLeave={() => setAt(null)}
          onBlur={() => setAt(null)}
          onKeyDown={keys}
        >
          <canvas ref={canvas} style={{ height: stripHeight(rows.length) }} />
          {at && lines[at.row] && <Tip at={at} line={lines[at.row]!} minutes={minutes} width={width} lastMs={lastMs} />}
        </div>
      </div>
      <div className="body strip-foot">
        <div className="key">
          <span><KeySwatch kind="quiet" />usual</span>
          <span><KeySwatch kind="busy" />near or over its bar</span>
          <span><KeySwatch kind="anom" />anomalous</span>
          <span><KeySwatch kind="missing" />missing</span>
          <span><KeySwatch kind="warming_up" />warming up</span>
          <span><KeySwatch kind="excluded" />excluded</span>
        </div>
        {(folded > 0 || all) && sorted.length > MOST_ROWS && (
          <button className="btn ghost" type="button" onClick={() => setAll(!all)}>
            {all ? 'Fold the usual ones' : `${folded} more, the least unusual`}
          </button>
        )}
      </div>
    </section>
  );
});

/** What is not judged yet is not called usual. */
export function markFor(row: StripRow, hot: Set<string>): MarkName {
  if (hot.has(entityName(row.labels))) return 'fire';
  if (row.status !== 'scored') return row.status;
  return row.ratio.slice(-10).some((one) => one !== null) ? 'ok' : 'warming_up';
}

function Tip({ at, line, minutes, width, lastMs }: { at: { row: number; minute: number }; line: StripLine; minutes: number; width: number; lastMs: number }): JSX.Element {
  const ms = lastMs - (minutes - 1 - at.minute) * 60e3;
  const status = line.minutes[at.minute] ?? null;
  const ratio = line.ratio[at.minute];
  const said = status === null ? 'nothing arrived' : status !== 'scored' ? PLAIN[status] : ratio == null ? 'not judged' : `strength ${ratio.toFixed(1)} × bar`;
  const x = Math.min(Math.max(0, width - 220), Math.max(0, (at.minute / minutes) * width - 110));
  return (
    <div className="tip" role="status" style={{ left: x, top: STRIP_TOP + at.row * ROW - 28 }}>
      {clock(ms, false)} {line.name} {said}
    </div>
  );
}
