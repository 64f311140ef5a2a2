import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState, type FormEvent, type JSX } from 'react';

import { post, setToken, token } from '../api';
import { count, entityName, labelsOf } from '../format';
import { live, useLive } from '../live';
import { Mark } from '../marks';
import { Failed, Loading, Panel, Seg, SkeletonRows, Time } from '../parts';
import { useControls, useSettings } from '../queries';
import { choice, choose, useTheme, type Choice } from '../theme';
import type { ControlRecord } from '../types';

export function Settings(): JSX.Element {
  return (
    <>
      <div className="title">
        <h1>Settings</h1>
        <p>What this Foreshock runs with, and what people have told it. Settings are changed in its files; this page shows them.</p>
      </div>
      <div className="grid even">
        <div className="c6">
          <Tell />
        </div>
        <div className="c6">
          <Look />
        </div>
      </div>
      <Told />
      <Running />
    </>
  );
}

function Look(): JSX.Element {
  useTheme();
  const [given, setGiven] = useState(token());
  return (
    <Panel title="This browser">
      <div className="body form">
        <div className="field">
          <span>Colours</span>
          <Seg<Choice> label="Colours" value={choice()} choices={[['system', 'As the system'], ['light', 'Light'], ['dark', 'Dark']]} onChoose={choose} />
        </div>
        <form
          className="field"
          onSubmit={(event) => {
            event.preventDefault();
            setToken(given.trim());
            live.connect();
          }}
        >
          <label htmlFor="token">Token</label>
          <input id="token" className="in" type="password" autoComplete="off" value={given} placeholder="only where the server asks for one" onChange={(event) => setGiven(event.target.value)} />
          <button className="btn" type="submit">
            Use it
          </button>
        </form>
      </div>
    </Panel>
  );
}

const KINDS: ['maintenance' | 'silence' | 'deploy', string, string][] = [
  ['maintenance', 'Maintenance', 'not judged, not learnt, not announced'],
  ['silence', 'Silence', 'judged and shown, not announced'],
  ['deploy', 'Deploy', 'judged, kept out of what is learnt'],
];
const LONG: [string, string][] = [['900', '15 min'], ['3600', '1 h'], ['14400', '4 h'], ['86400', '1 day']];

/** Silences, maintenance and deploys: told by one form. */
function Tell(): JSX.Element {
  const cache = useQueryClient();
  const { entities, link } = useLive();
  const [kind, setKind] = useState<'maintenance' | 'silence' | 'deploy'>('maintenance');
  const [entity, setEntity] = useState('');
  const [long, setLong] = useState('3600');
  const [comment, setComment] = useState('');
  const send = useMutation({
    mutationFn: () => {
      const now = Date.now();
      return post<ControlRecord>('/api/v1/control', {
        kind,
        matchers: entity ? labelsOf(entity) : {},
        until_unix_nano: Math.round(now + Number(long) * 1000) * 1e6,
        comment,
      });
    },
    onSuccess: () => {
      setComment('');
      void cache.invalidateQueries({ queryKey: ['control'] });
    },
  });
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    send.mutate();
  };
  const names = [...entities.keys()].sort();
  return (
    <Panel title="Tell Foreshock" aside={KINDS.find((one) => one[0] === kind)![2]}>
      <form className="body form" onSubmit={submit}>
        <div className="field">
          <span>What</span>
          <Seg label="What" value={kind} choices={KINDS.map(([value, name]) => [value, name])} onChoose={setKind} />
        </div>
        <div className="field">
          <label htmlFor="of">Of</label>
          <select id="of" className="in" value={entity} onChange={(event) => setEntity(event.target.value)}>
            <option value="">everything</option>
            {names.map((one) => (
              <option key={one} value={one}>
                {entityName(labelsOf(one))}
              </option>
            ))}
          </select>
        </div>
        <div className="field">
          <span>For</span>
          <Seg label="For how long" value={long} choices={LONG} onChoose={setLong} />
        </div>
        <div className="field">
          <label htmlFor="why">Why</label>
          <input id="why" className="in" value={comment} maxLength={200} placeholder="a few words, for the others" onChange={(event) => setComment(event.target.value)} />
        </div>
        <div className="acts">
          <button className="btn main-act" type="submit" disabled={send.isPending || link !== 'live'}>
            Start {kind} now
          </button>
        </div>
        <p className="mute small" role="status">
          {send.isError ? `Not noted: ${send.error.message}` : send.isSuccess ? 'Noted.' : link !== 'live' ? 'Off while not connected.' : ''}
        </p>
      </form>
    </Panel>
  );
}

const LABELS: Record<string, string> = { true: 'real', false: 'a false alarm', expected: 'expected', none: 'taken back' };

function Told(): JSX.Element {
  const controls = useControls();
  const now = Date.now() * 1e6;
  return (
    <Panel title="Told so far" aside="control records, the latest first">
      {controls.data ? (
        controls.data.length ? (
          <div className="scroll" tabIndex={0} role="region" aria-label="Control records">
            <table className="tbl cards">
              <tbody>
                {controls.data.slice(0, 30).map((one) => (
                  <tr key={one.id}>
                    <td>
                      <span className="st">
                        <Mark name={one.kind === 'deploy' ? 'change' : one.kind === 'label' ? 'dot' : 'excluded'} />
                        <b>{one.kind}</b>
                        {one.kind !== 'label' && (!one.until_unix_nano || one.until_unix_nano > now) && <span className="tag">in force</span>}
                      </span>
                    </td>
                    <td data-l="What">{one.kind === 'label' ? <a href={`#/alert/${one.episode}`}>{LABELS[one.label ?? ''] ?? one.label}</a> : entityName(one.matchers ?? {})}</td>
                    <td data-l="Why" className="soft">
                      {one.comment || '–'}
                    </td>
                    <td className="nw" data-l="When">
                      <Time at={one.effective_unix_nano / 1e6} />
                      {one.until_unix_nano ? (
                        <>
                          {' '}
                          to <Time at={one.until_unix_nano / 1e6} seconds={false} />
                        </>
                      ) : null}
                    </td>
                    <td data-l="Who">{one.author || '–'}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        ) : (
          <p className="body soft">Nobody has told it anything yet.</p>
        )
      ) : controls.isError ? (
        <Failed what="The control records" error={controls.error} still="They are in force as before." again={() => void controls.refetch()} />
      ) : (
        <Loading>
          <SkeletonRows rows={3} />
        </Loading>
      )}
    </Panel>
  );
}

function Running(): JSX.Element {
  const settings = useSettings();
  const [text, setText] = useState('');
  const [all, setAll] = useState(false);
  const list = (settings.data ?? []).filter(
    (one) => (all || one.origin !== 'default') && (one.key + ' ' + one.value).toLowerCase().includes(text.toLowerCase()),
  );
  return (
    <section className="panel">
      <header className="filters">
        <h2>Running settings</h2>
        <Seg label="Which" value={all ? 'all' : 'own'} choices={[['own', 'Set by you or a preset'], ['all', 'All']]} onChoose={(next) => setAll(next === 'all')} />
        <input className="in" type="search" placeholder="Find a setting" aria-label="Find a setting" value={text} onChange={(event) => setText(event.target.value)} />
      </header>
      {settings.data ? (
        <>
          <div className="scroll" tabIndex={0} role="region" aria-label="Settings">
            <table className="tbl cards">
              <thead>
                <tr>
                  <th>Setting</th>
                  <th>Value</th>
                  <th>From</th>
                </tr>
              </thead>
              <tbody>
                {list.map((one) => (
                  <tr key={one.key}>
                    <td>
                      <code>{one.key}</code>
                    </td>
                    <td data-l="Value">
                      <code className="wrap">{one.value}</code>
                    </td>
                    <td data-l="From" className="soft">
                      {one.origin}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          <p className="sub">{count(list.length, 'setting')} of {settings.data.length}. Secrets are shown as ***.</p>
        </>
      ) : settings.isError ? (
        <Failed what="The settings" error={settings.error} still="They are in force as before." again={() => void settings.refetch()} />
      ) : (
        <Loading>
          <SkeletonRows rows={6} />
        </Loading>
      )}
    </section>
  );
}
