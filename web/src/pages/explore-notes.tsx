import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useId, useState, type FormEvent, type JSX } from 'react';

import { post } from '../api';
import { duration, entityName } from '../format';
import { useLive } from '../live';
import { Mark, type MarkName } from '../marks';
import { Seg, Time } from '../parts';
import { useMay } from '../queries';
import type { Range } from '../range';
import { alertPath } from '../router';
import type { AlertState, ControlRecord } from '../types';

/** Something that stands beside a series: from … to, in Unix seconds (to = null: it goes on). */
export interface Note {
  id: string;
  mark: MarkName;
  kind: string;
  what: JSX.Element | string;
  from: number;
  to: number | null;
  effect: string;
}

const KINDS: Record<string, [MarkName, string, string]> = {
  deploy: ['change', 'Deploy', 'kept out of what is learnt'],
  maintenance: ['excluded', 'Maintenance', 'not judged, not learnt, not announced'],
  silence: ['ring', 'Silence', 'judged and shown, not announced'],
  expected: ['good', 'Expected', 'what is usual was learnt anew from here'],
  label: ['dot', 'Label', ''],
};
const LABELS: Record<string, [string, string]> = {
  true: ['Something was wrong', 'counts for detectors that found it'],
  false: ['All was well', 'counts against detectors that found something'],
  expected: ['Expected', 'neither for nor against'],
};

/** Whether a record speaks of an entity: all of its matchers stand among the labels. */
export const speaksOf = (one: ControlRecord, labels: Record<string, string>): boolean =>
  Object.entries(one.matchers ?? {}).every(([name, value]) => labels[name] === value);

/** What people told of an entity, and alerts of a series, in a range; the latest first. */
export function notesOf(controls: ControlRecord[], alerts: AlertState[], labels: Record<string, string>, [from, to]: Range): Note[] {
  const out: Note[] = [];
  for (const one of controls) {
    const known = KINDS[one.kind];
    // Opinions on episodes stand with their alerts.
    if (!known || one.episode || !speaksOf(one, labels)) continue;
    const [mark, kind, effect] = known;
    const label = one.kind === 'label' ? LABELS[one.label ?? ''] : undefined;
    const of = Object.keys(one.matchers ?? {}).length ? entityName(one.matchers ?? {}) : 'everything';
    const instant = one.kind === 'deploy' || one.kind === 'expected';
    out.push({
      id: one.id, mark, kind, effect: label?.[1] ?? effect, from: one.effective_unix_nano / 1e9,
      to: one.until_unix_nano ? one.until_unix_nano / 1e9 : instant ? one.effective_unix_nano / 1e9 : null,
      what: [label?.[0], one.comment || (label ? '' : of), one.author && `by ${one.author}`].filter(Boolean).join(', '),
    });
  }
  for (const one of alerts) {
    const said = one.foreshock.label ? `, called ${one.foreshock.label === 'true' ? 'real' : one.foreshock.label === 'false' ? 'a false alarm' : one.foreshock.label}` : '';
    out.push({
      id: one.foreshock.episode, mark: one.status === 'firing' ? 'fire' : 'good', kind: 'Alert',
      what: <a href={alertPath(one.foreshock.episode)}>{one.annotations['summary'] ?? 'An alert'}</a>,
      from: Date.parse(one.startsAt) / 1000, to: one.status === 'firing' ? null : Date.parse(one.endsAt) / 1000,
      effect: (one.foreshock.notified ? 'announced' : 'not announced') + said,
    });
  }
  return out.filter((one) => one.from <= to && (one.to === null || one.to >= from)).sort((a, b) => b.from - a.from);
}

const MOST = 12;

export function Notes({ notes, labels, range, onShow }: { notes: Note[]; labels: Record<string, string>; range: Range; onShow: (range: Range) => void }): JSX.Element {
  const [open, setOpen] = useState(false);
  const may = useMay('control');
  const form = useId();
  return (
    <section className="panel">
      <header>
        <h2>Notes on this range</h2>
        <div className="r">
          {!may && <span>Operators may add some.</span>}
          <button className="btn" type="button" aria-expanded={open} aria-controls={form} disabled={!may} onClick={() => setOpen(!open)}>
            Add a note
          </button>
        </div>
      </header>
      <div id={form} hidden={!open}>
        {open && <Add labels={labels} range={range} onDone={() => setOpen(false)} />}
      </div>
      {notes.length ? (
        <table className="tbl cards">
          <tbody>
            {notes.slice(0, MOST).map((one) => (
              <tr key={one.id}>
                <td>
                  <span className="st">
                    <Mark name={one.mark} />
                    <b>{one.kind}</b>
                  </span>
                </td>
                <td data-l="What">{one.what || '–'}</td>
                <td className="nw" data-l="When">
                  <Time at={one.from * 1000} />
                  {one.to === null ? ' until now' : one.to > one.from ? `, ${duration(one.to - one.from)}` : ''}
                </td>
                <td className="soft" data-l="Effect">
                  {one.effect || '–'}
                </td>
                <td className="num" data-l="">
                  <button className="btn ghost" type="button" aria-label={`Show ${one.kind} in the chart`} onClick={() => onShow(around(one, range))}>
                    Show
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      ) : (
        <p className="body soft">Nothing was told of this range, and no alert has named this series in it.</p>
      )}
      {notes.length > MOST && <p className="sub">{notes.length - MOST} earlier ones: choose a shorter range.</p>}
    </section>
  );
}

/** A range with a note in its middle. */
function around(one: Note, [from, to]: Range): Range {
  const end = one.to ?? to;
  const room = Math.max(120, end - one.from);
  return end - one.from > to - from ? [one.from, end] : [one.from - room, end + room];
}

type Kind = 'deploy' | 'maintenance' | 'true' | 'false';
const CHOICES: [Kind, string][] = [['deploy', 'Deploy'], ['maintenance', 'Maintenance'], ['true', 'Something was wrong'], ['false', 'All was well']];

const two = (n: number): string => String(n).padStart(2, '0');

/** A local time as `datetime-local` fields write it. */
export function field(seconds: number): string {
  const d = new Date(seconds * 1000);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}T${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

/** The form: it begins with the range that was shown when it was opened. */
function Add({ labels, range, onDone }: { labels: Record<string, string>; range: Range; onDone: () => void }): JSX.Element {
  const cache = useQueryClient();
  const { link } = useLive();
  const id = useId();
  const [kind, setKind] = useState<Kind>('deploy');
  const [all, setAll] = useState(false);
  const [comment, setComment] = useState('');
  const [from, setFrom] = useState(field(range[0]));
  const [to, setTo] = useState(field(range[1]));
  const [start, end] = [Date.parse(from), Date.parse(to)];
  const wrong = !(end > start);
  const send = useMutation({
    mutationFn: () =>
      post<ControlRecord>('/api/v1/control', {
        kind: kind === 'true' || kind === 'false' ? 'label' : kind,
        ...(kind === 'true' || kind === 'false' ? { label: kind } : {}),
        matchers: all && kind !== 'true' && kind !== 'false' ? {} : labels,
        effective_unix_nano: Math.round(start) * 1e6,
        until_unix_nano: Math.round(end) * 1e6,
        comment,
      }),
    onSuccess: () => {
      void cache.invalidateQueries({ queryKey: ['control'] });
      void cache.invalidateQueries({ queryKey: ['detectors'] });
      onDone();
    },
  });
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (!wrong) send.mutate();
  };
  const says = kind === 'deploy' || kind === 'maintenance' ? KINDS[kind]![2] : LABELS[kind]![1];
  return (
    <form className="body form note" onSubmit={submit}>
      <div className="field">
        <span>What</span>
        <Seg label="What" value={kind} choices={CHOICES} onChoose={setKind} />
      </div>
      <div className="field">
        <label htmlFor={`${id}from`}>From</label>
        <input id={`${id}from`} className="in" type="datetime-local" step={1} required value={from} onChange={(event) => setFrom(event.target.value)} />
      </div>
      <div className="field">
        <label htmlFor={`${id}to`}>To</label>
        <input id={`${id}to`} className="in" type="datetime-local" step={1} required value={to} aria-invalid={wrong} onChange={(event) => setTo(event.target.value)} />
      </div>
      {(kind === 'deploy' || kind === 'maintenance') && (
        <div className="field">
          <span>Of</span>
          <Seg label="Of" value={all ? 'all' : 'this'} choices={[['this', entityName(labels)], ['all', 'everything']]} onChoose={(next) => setAll(next === 'all')} />
        </div>
      )}
      <div className="field">
        <label htmlFor={`${id}why`}>Why</label>
        <input id={`${id}why`} className="in" value={comment} maxLength={200} placeholder="a few words, for the others" onChange={(event) => setComment(event.target.value)} />
      </div>
      <div className="acts">
        <button className="btn main-act" type="submit" disabled={send.isPending || wrong || link !== 'live'}>
          Add it
        </button>
        <button className="btn ghost" type="button" onClick={onDone}>
          Leave it
        </button>
      </div>
      <p className="mute small" role="status">
        {send.isError ? `Not noted: ${send.error.message}` : wrong ? 'It ends before it begins.' : link !== 'live' ? 'Off while not connected.' : `Effect: ${says}.`}
      </p>
    </form>
  );
}
