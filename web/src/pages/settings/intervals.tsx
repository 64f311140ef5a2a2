import { useMutation, useQueryClient } from '@tanstack/react-query';
import type { JSX } from 'react';

import { remove } from '../../api';
import { duration, entityName } from '../../format';
import { useLive } from '../../live';
import { Mark } from '../../marks';
import { Panel, Time } from '../../parts';
import { useIntervals, useMay } from '../../queries';
import { Loaded, Table, type Column } from '../../table';
import type { ControlRecord } from '../../types';

const WORDS: Record<string, string> = { maintenance: 'not judged, not learnt', silence: 'not announced', deploy: 'not learnt' };

/** What holds now or is to come: those in force first, then the next to begin. */
export function inForce(all: ControlRecord[], now: number): ControlRecord[] {
  // One that ends where it begins was withdrawn before it began.
  const left = all.filter((one) => !one.until_unix_nano || (one.until_unix_nano > one.effective_unix_nano && one.until_unix_nano / 1e6 > now));
  return left.sort((a, b) => Number(hasBegun(b, now)) - Number(hasBegun(a, now)) || a.effective_unix_nano - b.effective_unix_nano);
}

const hasBegun = (one: ControlRecord, now: number): boolean => one.effective_unix_nano / 1e6 <= now;

/** Maintenance, silences and deploys that hold or are to come; whoever may can end them early. */
export function Intervals(): JSX.Element {
  const kinds = [useIntervals('maintenance'), useIntervals('silence'), useIntervals('deploy')];
  const failed = kinds.find((one) => one.isError && !one.data);
  const known = kinds.every((one) => one.data);
  const now = useLive((live) => Math.floor(live.standing?.now_unix_seconds ?? Date.now() / 1000)) * 1000;
  const query = {
    data: known ? inForce(kinds.flatMap((one) => one.data ?? []), now) : undefined,
    isError: !!failed,
    error: failed?.error,
    refetch: () => kinds.forEach((one) => void one.refetch()),
  };
  return (
    <Panel title="In force and to come" aside="silences, maintenance and deploys">
      <Loaded query={query} what="What is in force" still="It holds as before." rows={2}>
        {(rows) =>
          rows.length ? (
            <Table label="In force and to come" columns={columns(now)} rows={rows} keyOf={(one) => one.id} />
          ) : (
            <p className="body soft">Nothing is silenced, and nothing is being maintained: everything is judged and announced.</p>
          )
        }
      </Loaded>
    </Panel>
  );
}

const columns = (now: number): Column<ControlRecord>[] => [
  {
    name: 'What',
    cell: (one) => (
      <>
        <span className="st">
          <Mark name={one.kind === 'deploy' ? 'change' : 'excluded'} />
          <b>{one.kind}</b>
          <span className={hasBegun(one, now) ? 'tag' : 'tag dash'}>{hasBegun(one, now) ? 'in force' : 'to come'}</span>
        </span>
        <small>{WORDS[one.kind]}</small>
      </>
    ),
  },
  {
    name: 'Of',
    cell: (one) => (
      <>
        {entityName(one.matchers ?? {})}
        {Object.keys(one.matchers ?? {}).length > 0 && (
          <small>
            <code>{matchersText(one.matchers ?? {})}</code>
          </small>
        )}
      </>
    ),
  },
  { name: 'Why', className: 'soft', cell: (one) => one.comment || '–' },
  { name: 'From', className: 'nw', cell: (one) => <Time at={one.effective_unix_nano / 1e6} seconds={false} /> },
  {
    name: 'Until', className: 'nw',
    cell: (one) =>
      one.until_unix_nano ? (
        <>
          <Time at={one.until_unix_nano / 1e6} seconds={false} />
          {hasBegun(one, now) && <small>{duration((one.until_unix_nano / 1e6 - now) / 1000)} left</small>}
        </>
      ) : (
        'it is ended'
      ),
  },
  { name: 'Who', cell: (one) => one.author || '–' },
  { name: '', label: '', num: true, cell: (one) => <End one={one} begun={hasBegun(one, now)} /> },
];

export const matchersText = (matchers: Record<string, string>): string => Object.entries(matchers).map(([name, value]) => `${name}=${value}`).join(', ');

function End({ one, begun }: { one: ControlRecord; begun: boolean }): JSX.Element | null {
  const cache = useQueryClient();
  const link = useLive((live) => live.link);
  const may = useMay('control');
  const end = useMutation({
    mutationFn: () => remove<ControlRecord>(`/api/v1/control/${encodeURIComponent(one.id)}`),
    onSettled: () => void cache.invalidateQueries({ queryKey: ['control'] }),
  });
  if (!may) return null;
  return (
    <>
      <button className="btn" type="button" disabled={end.isPending || end.isSuccess || link !== 'live'} onClick={() => end.mutate()} aria-label={`${begun ? 'End' : 'Withdraw'} the ${one.kind} of ${entityName(one.matchers ?? {})}`}>
        {begun ? 'End now' : 'Withdraw'}
      </button>
      {end.isError && (
        <small className="fire" role="alert">
          {end.error.message}
        </small>
      )}
    </>
  );
}
