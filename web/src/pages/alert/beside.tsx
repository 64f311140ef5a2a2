import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState, type JSX } from 'react';

import { label as sendLabel } from '../../api';
import { alertEntity, duration, featureName } from '../../format';
import { useLive } from '../../live';
import { Mark, type MarkName } from '../../marks';
import { announced, endOf, Panel, startOf, Time } from '../../parts';
import { useControls, useHistory } from '../../queries';
import { alertPath } from '../../router';
import type { AlertState, Label } from '../../types';

const JUDGE: [Label, MarkName, string, string][] = [
  ['true', 'good', 'Real', 'Counts as a true alarm of the detector that found it.'],
  ['false', 'no', 'False alarm', 'Counts against the detector that found it. The bar itself learns from how often it is passed.'],
  ['expected', 'excluded', 'Expected from now on', 'Starts anew what is usual for this entity. It warms up and is judged by the new normal.'],
];

export function Feedback({ alert }: { alert: AlertState }): JSX.Element {
  const cache = useQueryClient();
  const link = useLive((live) => live.link);
  const episode = alert.foreshock.episode;
  const [chosen, setChosen] = useState<Label | undefined>(alert.foreshock.label as Label | undefined);
  const send = useMutation({
    mutationFn: (value: Label) => sendLabel(episode, value),
    onSuccess: (_, value) => {
      setChosen(value === 'none' ? undefined : value);
      void cache.invalidateQueries({ queryKey: ['alert', episode] });
      void cache.invalidateQueries({ queryKey: ['control'] });
      void cache.invalidateQueries({ queryKey: ['detectors'] });
    },
  });
  return (
    <Panel title="Was this right?" aside="can be undone" className="o3">
      <div className="body judge">
        {JUDGE.map(([value, mark, name, says]) => (
          <button
            key={value}
            type="button"
            aria-pressed={chosen === value}
            disabled={send.isPending || link !== 'live'}
            onClick={() => send.mutate(chosen === value ? 'none' : value)}
          >
            <Mark name={mark} tint="soft" />
            <b>{name}</b>
            <span>{says}</span>
          </button>
        ))}
        <p className="mute small" role="status">
          {send.isError ? `Not noted: ${send.error.message}` : send.isSuccess ? (chosen ? 'Noted. Press it again to take it back.' : 'Taken back.') : link !== 'live' ? 'Off while not connected.' : ''}
        </p>
      </div>
    </Panel>
  );
}

export function Timeline({ alert }: { alert: AlertState }): JSX.Element {
  const controls = useControls();
  const start = startOf(alert);
  const end = endOf(alert);
  const decided = Date.parse(alert.foreshock.decidedAt);
  const events: { at: number; mark: MarkName; text: string; more: string }[] = [
    { at: start, mark: 'fire', text: `${alertEntity(alert.labels)} leaves what is usual`, more: 'start of the first unusual step' },
  ];
  if (end === null && decided >= start)
    events.push({ at: decided, mark: 'dot', text: announced(alert) ? 'Decided, and announced' : 'Decided', more: announced(alert) ? `${duration((decided - start) / 1000)} after its start` : 'not announced by itself' });
  for (const one of controls.data ?? [])
    if (one.episode === alert.foreshock.episode)
      events.push({ at: one.effective_unix_nano / 1e6, mark: one.label === 'true' ? 'good' : 'dot', text: one.label === 'none' ? 'Label taken back' : `Called ${({ true: 'real', false: 'a false alarm', expected: 'expected' } as Record<string, string>)[one.label ?? ''] ?? one.label}`, more: one.author ? `by ${one.author}` : '' });
  if (end !== null) events.push({ at: end, mark: 'good', text: 'Resolved', more: alert.annotations['closed_by'] === 'maintenance' ? 'maintenance ended it' : `after ${duration((end - start) / 1000)}` });
  return (
    <Panel title="Timeline">
      <ol className="tl">
        {events
          .sort((a, b) => a.at - b.at)
          .map((one, i) => (
            <li key={i}>
              <Time at={one.at} />
              <Mark name={one.mark} />
              <span>
                {one.text}
                {one.more && <small>{one.more}</small>}
              </span>
            </li>
          ))}
        {end === null && (
          <li className="todo">
            <time>–</time>
            <Mark name="ring" />
            <span>
              Resolved
              <small>once it has been usual for long enough</small>
            </span>
          </li>
        )}
      </ol>
    </Panel>
  );
}

export function Before({ alert }: { alert: AlertState }): JSX.Element | null {
  const entity = alert.foreshock.entity;
  const past = useHistory(entity ? { entity } : { text: alertEntity(alert.labels) });
  const found = (past.data?.pages[0]?.alerts ?? [])
    .filter((one) => one.foreshock.episode !== alert.foreshock.episode && one.status === 'resolved')
    .sort((a, b) => Number(b.labels['feature'] === alert.labels['feature']) - Number(a.labels['feature'] === alert.labels['feature']))
    .slice(0, 5);
  if (!past.data) return null;
  return (
    <Panel title="Seen before" aside={`alerts of ${alertEntity(alert.labels)}`}>
      {found.length ? (
        <table className="tbl">
          <tbody>
            {found.map((one) => (
              <tr key={one.foreshock.episode}>
                <td>
                  <a href={alertPath(one.foreshock.episode)}>{featureName(one.labels['feature'])}</a>
                  <small>{duration(((endOf(one) ?? 0) - startOf(one)) / 1000)}{one.foreshock.label ? `, called ${one.foreshock.label === 'true' ? 'real' : one.foreshock.label === 'false' ? 'false alarm' : 'expected'}` : ''}</small>
                </td>
                <td className="num mute">
                  <Time at={startOf(one)} seconds={false} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      ) : (
        <p className="body soft">Never before, as far back as is kept.</p>
      )}
    </Panel>
  );
}
