import { useEffect, useRef, type JSX } from 'react';

import { colours, fit } from '../canvas';
import { count, duration, entityName, labelsOf, num, quantity } from '../format';
import { useLive } from '../live';
import { Mark } from '../marks';
import { Panel, Time } from '../parts';
import { useOpen, useSources } from '../queries';
import { alertPath, explorePath } from '../router';
import { HalfAndMost, Loaded, Table, twoLines, type Column } from '../table';
import { useTheme } from '../theme';
import type { Dropped, SourceState } from '../types';

export function Sources(): JSX.Element {
  const found = useSources();
  const lost = useLive((live) => live.link === 'lost');
  const list = found.data?.sources ?? [];
  const rate = list.reduce((sum, one) => sum + one.samples_per_second, 0);
  const odd = list.filter((one) => one.state !== 'live' && one.state !== 'waiting');
  return (
    <>
      <div className="title">
        <h1>Sources</h1>
        {found.data && (
          <p>
            {count(list.length, 'source')} {lost ? 'sent' : list.length === 1 ? 'sends' : 'send'} {num(rate)} samples/s.
            {odd.length ? ` ${odd.map((one) => `${one.name} ${one.state === 'ended' ? 'has ended' : `is ${one.state}`}`).join(', ')}.` : ''}
          </p>
        )}
      </div>
      <section className="panel live">
        <Loaded query={found} what="The sources" still="What comes in is judged as before.">
          {(all) => <Table label="Sources" columns={COLUMNS} rows={all.sources} keyOf={(one) => one.name} />}
        </Loaded>
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

const COLUMNS: Column<SourceState>[] = [
  {
    name: 'Source',
    cell: (one) => (
      <>
        <b>{one.name}</b>
        <small>{one.type || 'not in the settings'}</small>
      </>
    ),
  },
  { name: 'State', cell: (one) => <State one={one} /> },
  {
    name: 'Samples/s', num: true,
    cell: (one) => (
      <>
        <b>{num(one.samples_per_second)}</b>
        <small>{num(one.samples)} in all</small>
      </>
    ),
  },
  { name: 'Last hour', className: 'spark-cell', cell: (one) => <Pace pace={one.pace} /> },
  {
    name: twoLines('Late by', 'median, p99'), label: 'Late by, p99', num: true,
    cell: (one) => <HalfAndMost half={one.delay_p50_seconds} most={one.delay_p99_seconds} bad={one.state === 'late'} />,
  },
  {
    name: twoLines('Waited for', 'then too late'), label: 'Waited for', num: true,
    cell: (one) => quantity(one.lateness_seconds, 's'),
  },
  {
    name: 'Newest sample', num: true,
    cell: (one) =>
      one.behind_seconds === null ? (
        '–'
      ) : (
        <>
          <b className={one.state === 'live' ? undefined : 'risk'}>{duration(one.behind_seconds)} old</b>
          {one.last_received && (
            <small>
              came <Time at={Date.parse(one.last_received)} />
            </small>
          )}
        </>
      ),
  },
  { name: twoLines('Not used', 'since the start'), label: 'Not used', num: true, cell: (one) => <NotUsed one={one} /> },
];

function NotUsed({ one }: { one: SourceState }): JSX.Element {
  const all = one.dropped.reduce((sum, part) => sum + part.count, 0);
  const most = one.dropped[0];
  if (!most) return <>0</>;
  const share = all / Math.max(1, all + one.samples);
  return (
    <>
      <b>{num(all)}</b>
      <small>
        {quantity(share, '1', 'ratio')}
        {one.dropped.length > 1 ? ', mostly ' : ', '}
        {(WORDS[most.reason] ?? most.reason.replace(/_/g, ' ')).toLowerCase()}
      </small>
    </>
  );
}

const STATES: Record<SourceState['state'], JSX.Element> = {
  live: <Mark name="live" tint="soft" />,
  waiting: <Mark name="ring" />,
  late: <Mark name="stale" tint="risk" />,
  silent: <Mark name="missing" tint="fire" />,
  ended: <Mark name="no" tint="fire" />,
};
const TINTS: Partial<Record<SourceState['state'], string>> = { late: 'risk', silent: 'fire', ended: 'fire' };

function State({ one }: { one: SourceState }): JSX.Element {
  const tint = TINTS[one.state];
  return (
    <>
      <span className="st">
        {STATES[one.state]}
        {tint ? <b className={tint}>{one.state}</b> : one.state}
      </span>
      {one.problem && <small>{one.problem}</small>}
    </>
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
  late: 'Too late', future: 'From the future', duplicate: 'Duplicate', not_finite: 'Not a number', series_limit: 'Too many series', pending_full: 'Too many waiting',
  entity_limit: 'Too many services', bad_json: 'Not JSON', no_time: 'Without a time', bad_time: 'Time not readable', queue_full: 'Refused, queue full',
  unavailable: 'Refused, not ready', source_backpressure: 'No room in the queue', missed_reading: 'Reading missed',
};

/** Sources that are not in the settings, by what they are. */
const SOURCES: Record<string, string> = { fingerprints: 'windows of calls' };

function DroppedPanel({ dropped, total }: { dropped: Dropped[]; total: number }): JSX.Element {
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
                  <small className="of">of {one.sources.map((part) => `${SOURCES[part.source] ?? part.source}${one.sources.length > 1 ? ` ${num(part.count)}` : ''}`).join(', ')}</small>
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
            {all.toLocaleString('en')} of {(all + total).toLocaleString('en')} samples.
          </p>
        )}
      </div>
    </Panel>
  );
}

function Silent(): JSX.Element {
  const entities = useLive((live) => live.entities);
  const lost = useLive((live) => live.link === 'lost');
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
        <p className="body soft">{lost ? 'All entities reported until then.' : 'All entities report.'}</p>
      )}
    </section>
  );
}
