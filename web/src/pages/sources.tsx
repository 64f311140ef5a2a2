import { useEffect, useRef, type JSX } from 'react';

import { colours, fit } from '../canvas';
import { count, duration, entityName, labelsOf, NB, num } from '../format';
import { useLive } from '../live';
import { Mark } from '../marks';
import { Failed, Loading, Panel, SkeletonRows, Time } from '../parts';
import { useOpen, useSources } from '../queries';
import { alertPath, explorePath } from '../router';
import { useTheme } from '../theme';
import type { SourceState } from '../types';

export function Sources(): JSX.Element {
  const found = useSources();
  const list = found.data?.sources ?? [];
  const rate = list.reduce((sum, one) => sum + one.samples_per_second, 0);
  const odd = list.filter((one) => one.state !== 'live' && one.state !== 'waiting');
  return (
    <>
      <div className="title">
        <h1>Sources</h1>
        {found.data && (
          <p>
            {count(list.length, 'source')} {list.length === 1 ? 'sends' : 'send'} {num(rate)} samples/s.
            {odd.length ? ` ${odd.map((one) => `${one.name} ${one.state === 'ended' ? 'has ended' : `is ${one.state}`}`).join(', ')}.` : ''}
          </p>
        )}
      </div>
      <section className="panel live">
        {found.data ? (
          <div className="scroll" tabIndex={0} role="region" aria-label="Sources">
            <table className="tbl cards">
              <thead>
                <tr>
                  <th>Source</th>
                  <th>State</th>
                  <th className="num">Samples/s</th>
                  <th>Last hour</th>
                  <th className="num">Newest sample</th>
                  <th className="num">Waited for</th>
                  <th className="num">Samples</th>
                  <th className="num">Last received</th>
                </tr>
              </thead>
              <tbody>
                {list.map((one) => (
                  <Row key={one.name} one={one} />
                ))}
              </tbody>
            </table>
          </div>
        ) : found.isError ? (
          <Failed what="The sources" error={found.error} still="What comes in is judged as before." again={() => void found.refetch()} />
        ) : (
          <Loading>
            <SkeletonRows rows={4} />
          </Loading>
        )}
      </section>
      <div className="grid even">
        <div className="c6">
          <DroppedPanel dropped={found.data?.dropped ?? []} total={list.reduce((sum, one) => sum + one.samples, 0)} />
        </div>
        <div className="c6">
          <Silent />
        </div>
      </div>
    </>
  );
}

function Row({ one }: { one: SourceState }): JSX.Element {
  const late = one.state === 'late' || one.state === 'silent';
  return (
    <tr>
      <td>
        <b>{one.name}</b>
        <small>{one.type || 'not in the settings'}</small>
      </td>
      <td data-l="State">
        <span className="st">
          {one.state === 'live' ? (
            <>
              <Mark name="live" tint="soft" />
              live
            </>
          ) : one.state === 'waiting' ? (
            <>
              <Mark name="ring" />
              waiting
            </>
          ) : one.state === 'late' ? (
            <>
              <Mark name="stale" tint="risk" />
              <b className="risk">late</b>
            </>
          ) : (
            <>
              <Mark name={one.state === 'ended' ? 'no' : 'missing'} tint="fire" />
              <b className="fire">{one.state}</b>
            </>
          )}
        </span>
        {one.problem && <small>{one.problem}</small>}
      </td>
      <td className="num" data-l="Samples/s">
        <b>{num(one.samples_per_second)}</b>
      </td>
      <td data-l="Last hour" className="spark-cell">
        <Pace pace={one.pace} />
      </td>
      <td className="num" data-l="Newest sample">
        {one.behind_seconds === null ? '–' : <b className={late ? 'risk' : ''}>{duration(one.behind_seconds)} old</b>}
      </td>
      <td className="num" data-l="Waited for">
        {num(one.lateness_seconds)}
        {NB}s
      </td>
      <td className="num" data-l="Samples">
        {one.samples.toLocaleString('en')}
      </td>
      <td className="num" data-l="Last received">
        {one.last_received ? <Time at={Date.parse(one.last_received)} /> : '–'}
      </td>
    </tr>
  );
}

/** Samples in each minute of the last hour; a minute without any is a gap, not a zero on a line. */
function Pace({ pace }: { pace: number[] }): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const theme = useTheme();
  useEffect(() => {
    const g = canvas.current && fit(canvas.current, 120, 24);
    if (!g) return;
    const c = colours();
    const shown = pace.slice(0, -1);
    const most = Math.max(1, ...shown);
    g.fillStyle = c.busy;
    shown.forEach((v, i) => v && g.fillRect(i * 2, 23 - (v / most) * 21, 1.5, Math.max(1, (v / most) * 21)));
    g.fillStyle = c['line-strong'];
    g.fillRect(0, 23, 120, 1);
  }, [pace, theme]);
  return <canvas ref={canvas} role="img" aria-label={`${Math.max(...pace).toLocaleString('en')} samples in the busiest minute of the last hour`} style={{ width: 120, height: 24 }} />;
}

const WORDS: Record<string, string> = {
  late: 'Too late', future: 'From the future', duplicate: 'Duplicate', not_finite: 'Not a number', series_limit: 'Too many series', pending_full: 'Too many waiting', entity_limit: 'Too many services',
};

function DroppedPanel({ dropped, total }: { dropped: { reason: string; count: number; says: string }[]; total: number }): JSX.Element {
  const all = dropped.reduce((sum, one) => sum + one.count, 0);
  return (
    <Panel title="Not used since the start, and why">
      <div className="body">
        {dropped.length ? (
          <ul className="bars">
            {dropped.map((one) => (
              <li key={one.reason}>
                <span>
                  <b>{WORDS[one.reason] ?? one.reason.replace(/_/g, ' ')}</b>
                  {one.says && <small>{one.says}</small>}
                </span>
                <span className="bar">
                  <i style={{ width: `${(one.count / all) * 100}%` }} />
                </span>
                <span className="num">{num(one.count)}</span>
              </li>
            ))}
          </ul>
        ) : (
          <p className="soft">Every sample was used.</p>
        )}
        {all > 0 && (
          <p className="soft foot">
            {all.toLocaleString('en')} of {total.toLocaleString('en')} samples.
          </p>
        )}
      </div>
    </Panel>
  );
}

function Silent(): JSX.Element {
  const { entities } = useLive();
  const open = useOpen();
  const silent = (open.data ?? []).filter((one) => one.foreshock.kind === 'silence');
  const named = new Set(silent.map((one) => one.foreshock.entity));
  const quiet = [...entities.values()].filter((one) => (one[1] === 'missing' || one[1] === 'stale') && !named.has(one[0]));
  return (
    <section className="panel">
      <header>
        <h2>Silent entities</h2>
        <span className="mute">silence is never shown as normal</span>
      </header>
      {silent.length + quiet.length ? (
        <table className="tbl cards">
          <tbody>
            {silent.map((one) => (
              <tr key={one.foreshock.episode}>
                <td>
                  <span className="st">
                    <Mark name="missing" tint="fire" />
                    <a href={alertPath(one.foreshock.episode)}>{one.annotations['summary']}</a>
                  </span>
                </td>
                <td className="num" data-l="Silent since">
                  <Time at={Date.parse(one.startsAt)} />
                </td>
              </tr>
            ))}
            {quiet.slice(0, 20).map(([entity, , , seen]) => (
              <tr key={entity}>
                <td>
                  <span className="st">
                    <Mark name="missing" />
                    <a href={explorePath(entity)}>{entityName(labelsOf(entity))}</a>
                  </span>
                </td>
                <td className="num" data-l="Last row">
                  <Time at={seen * 1000} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      ) : (
        <p className="body soft">All entities report.</p>
      )}
    </section>
  );
}
