import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState, type FormEvent, type JSX } from 'react';

import { post } from '../../api';
import { count, labelsOf } from '../../format';
import { useLive } from '../../live';
import { Panel, Seg } from '../../parts';
import { useMay, type Interval } from '../../queries';
import type { ControlRecord, EntityNow } from '../../types';

const KINDS: [Interval, string, string][] = [
  ['maintenance', 'Maintenance', 'not judged, not learnt, not announced'],
  ['silence', 'Silence', 'judged and shown, not announced'],
  ['deploy', 'Deploy', 'judged, kept out of what is learnt'],
];
const LONG: [string, string][] = [['900', '15 min'], ['3600', '1 h'], ['14400', '4 h'], ['86400', '1 day'], ['until', 'Until …'], ['', 'No end']];

/** Labels as they are written in one line: `{host.name="a1"}`, `service.name=payment, tier=front`; null = neither. */
export function matchersOf(text: string): Record<string, string> | null {
  const plain = text.trim();
  if (!plain) return {};
  if (plain.startsWith('{')) {
    const found = labelsOf(plain);
    return Object.keys(found).length ? found : null;
  }
  const out: Record<string, string> = {};
  for (const part of plain.split(',')) {
    const at = part.indexOf('=');
    const name = part.slice(0, at).trim();
    const value = part.slice(at + 1).trim().replace(/^"(.*)"$/, '$1');
    if (at < 0 || !name || !value) return null;
    out[name] = value;
  }
  return out;
}

/** How many entities carry all of these labels. */
const carried = (matchers: Record<string, string>, entities: Map<string, EntityNow>): number =>
  [...entities.keys()].filter((text) => {
    const own = labelsOf(text);
    return Object.entries(matchers).every(([name, value]) => own[name] === value);
  }).length;

/** What keeps it from being told; '' = nothing does. */
function wrongWith(matchers: object | null, start: number, end: number): string {
  if (!matchers) return 'Write labels as name=value, with commas between them.';
  if (!Number.isFinite(start)) return 'Say when it begins.';
  if (!Number.isFinite(end)) return 'Say when it ends.';
  return end !== 0 && end <= start ? 'It ends before it begins.' : '';
}

const ms = (local: string): number => new Date(local).getTime();

/** Silences, maintenance and deploys: told by one form. */
export function Tell(): JSX.Element {
  const cache = useQueryClient();
  const entities = useLive((live) => live.entities);
  const link = useLive((live) => live.link);
  const may = useMay('control');
  const [kind, setKind] = useState<Interval>('maintenance');
  const [of, setOf] = useState('');
  const [begin, setBegin] = useState<'now' | 'later'>('now');
  const [from, setFrom] = useState('');
  const [long, setLong] = useState('3600');
  const [until, setUntil] = useState('');
  const [comment, setComment] = useState('');
  const matchers = matchersOf(of);
  const start = begin === 'now' ? Date.now() : ms(from);
  const end = long === '' ? 0 : long === 'until' ? ms(until) : start + Number(long) * 1000;
  const wrong = wrongWith(matchers, start, end);
  const send = useMutation({
    mutationFn: () =>
      post<ControlRecord>('/api/v1/control', {
        kind, matchers, comment,
        ...(begin === 'later' ? { effective_unix_nano: Math.round(start) * 1e6 } : {}),
        ...(end ? { until_unix_nano: Math.round(end) * 1e6 } : {}),
      }),
    onSuccess: () => setComment(''),
    onSettled: () => void cache.invalidateQueries({ queryKey: ['control'] }),
  });
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (!wrong) send.mutate();
  };
  const said = send.isError ? `Not noted: ${send.error.message}` : link !== 'live' ? 'Off while not connected.' : !may ? 'Your token may only read: an operator can do this.' : wrong || (send.isSuccess ? 'Noted. It stands below, and can be ended early.' : '');
  return (
    <Panel title="Tell Foreshock" aside={KINDS.find((one) => one[0] === kind)![2]}>
      <form className="body form" onSubmit={submit}>
        <div className="field">
          <span>What</span>
          <Seg label="What" value={kind} choices={KINDS.map(([value, name]) => [value, name])} onChoose={setKind} />
        </div>
        <div className="field">
          <label htmlFor="of">Of</label>
          <input id="of" className="in" list="entities" value={of} placeholder="everything, or labels: service.name=payment" onChange={(event) => setOf(event.target.value)} aria-describedby="of-many" />
          <datalist id="entities">
            {[...entities.keys()].sort().map((one) => (
              <option key={one} value={one} />
            ))}
          </datalist>
          <small id="of-many" className="mute">
            {matchers && entities.size > 0 ? `now ${count(carried(matchers, entities), 'entity', 'entities')} of ${entities.size}` : ''}
          </small>
        </div>
        <div className="field">
          <span>From</span>
          <Seg<'now' | 'later'> label="From when" value={begin} choices={[['now', 'Now'], ['later', 'Later']]} onChoose={setBegin} />
          {begin === 'later' && <input className="in" type="datetime-local" aria-label="Begins at" value={from} onChange={(event) => setFrom(event.target.value)} />}
        </div>
        <div className="field">
          <span>For</span>
          <Seg label="For how long" value={long} choices={LONG} onChoose={setLong} />
          {long === 'until' && <input className="in" type="datetime-local" aria-label="Ends at" value={until} onChange={(event) => setUntil(event.target.value)} />}
        </div>
        <div className="field">
          <label htmlFor="why">Why</label>
          <input id="why" className="in" value={comment} maxLength={200} placeholder="a few words, for the others" onChange={(event) => setComment(event.target.value)} />
        </div>
        <div className="acts">
          <button className="btn main-act" type="submit" disabled={send.isPending || link !== 'live' || !may || !!wrong}>
            {begin === 'now' ? `Start ${kind} now` : `Plan ${kind}`}
          </button>
        </div>
        <p className="mute small" role="status">
          {said}
        </p>
      </form>
    </Panel>
  );
}
