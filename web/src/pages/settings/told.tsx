import type { JSX } from 'react';

import { entityName } from '../../format';
import { Mark } from '../../marks';
import { Panel, Time } from '../../parts';
import { useControls } from '../../queries';
import { Loaded, Table, type Column } from '../../table';
import type { ControlRecord } from '../../types';

const LABELS: Record<string, string> = { true: 'real', false: 'a false alarm', expected: 'expected', none: 'taken back' };
const MOST = 30;

const COLUMNS: Column<ControlRecord>[] = [
  {
    name: 'What was told',
    cell: (one) => (
      <span className="st">
        <Mark name={one.kind === 'deploy' ? 'change' : one.kind === 'label' ? 'dot' : 'excluded'} />
        <b>{one.kind}</b>
      </span>
    ),
  },
  {
    name: 'Of',
    cell: (one) => (one.kind === 'label' ? <a href={`#/alert/${one.episode}`}>{LABELS[one.label ?? ''] ?? one.label}</a> : entityName(one.matchers ?? {})),
  },
  { name: 'Why', className: 'soft', cell: (one) => one.comment || '–' },
  {
    name: 'When', className: 'nw',
    cell: (one) => (
      <>
        <Time at={one.effective_unix_nano / 1e6} />
        {one.until_unix_nano ? (
          <>
            {' '}
            to <Time at={one.until_unix_nano / 1e6} seconds={false} />
          </>
        ) : null}
      </>
    ),
  },
  { name: 'Who', cell: (one) => one.author || '–' },
];

/** Everything that people have told Foreshock, also what is over. */
export function Told(): JSX.Element {
  const controls = useControls();
  return (
    <Panel title="Told so far" aside="control records, the latest first">
      <Loaded query={controls} what="The control records" still="They are in force as before." rows={3}>
        {(all) =>
          all.length ? (
            <Table label="Control records" columns={COLUMNS} rows={all.slice(0, MOST)} keyOf={(one) => one.id} />
          ) : (
            <p className="body soft">Nobody has told it anything yet.</p>
          )
        }
      </Loaded>
    </Panel>
  );
}
