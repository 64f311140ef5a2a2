import { useState, type JSX } from 'react';

import { setToken, token } from '../api';
import { count } from '../format';
import { live } from '../live';
import { Panel, Seg } from '../parts';
import { useSettings } from '../queries';
import { Loaded, Table, type Column } from '../table';
import { choice, choose, useTheme, type Choice } from '../theme';
import type { Setting } from '../types';
import { Intervals } from './settings/intervals';
import { Tell } from './settings/tell';
import { Told } from './settings/told';

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
      <Intervals />
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

function Running(): JSX.Element {
  const settings = useSettings();
  const [text, setText] = useState('');
  const [all, setAll] = useState(false);
  const list = (settings.data ?? []).filter(
    (one) => (all || one.origin !== 'default') && `${one.key} ${one.value} ${one.says}`.toLowerCase().includes(text.toLowerCase()),
  );
  return (
    <section className="panel">
      <header className="filters">
        <h2>Running settings</h2>
        <Seg label="Which" value={all ? 'all' : 'own'} choices={[['own', 'Set by you or a preset'], ['all', 'All']]} onChoose={(next) => setAll(next === 'all')} />
        <input className="in" type="search" placeholder="Find a setting" aria-label="Find a setting" value={text} onChange={(event) => setText(event.target.value)} />
      </header>
      <Loaded query={settings} what="The settings" still="They are in force as before." rows={6}>
        {(every) => (
          <>
            <Table label="Settings" columns={COLUMNS} rows={list} keyOf={(one) => one.key} />
            <p className="sub">
              {count(list.length, 'setting')} of {every.length}. Secrets are shown as ***.
            </p>
          </>
        )}
      </Loaded>
    </section>
  );
}

const COLUMNS: Column<Setting>[] = [
  {
    name: 'Setting',
    cell: (one) => (
      <>
        <code className="wrap">{one.key}</code>
        {one.says && <small className="says">{one.says}</small>}
      </>
    ),
  },
  { name: 'Value', cell: (one) => <code className="wrap">{one.value}</code> },
  { name: 'From', className: 'soft', cell: (one) => one.origin },
];
