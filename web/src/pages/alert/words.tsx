import type { JSX } from 'react';

import { alertEntity, detectorName, duration, featureName, NB, num, quantity, said } from '../../format';
import { endOf, figures, startOf, Time } from '../../parts';
import type { AlertState } from '../../types';
import { contributions, scientific } from './why';

/** What the alert says, in sentences with local times; the text that is sent elsewhere stands below them. */
export function InWords({ alert }: { alert: AlertState }): JSX.Element {
  const { summary, description } = alert.annotations;
  const own = alert.foreshock.kind === 'anomaly' && alert.annotations['direction'] !== undefined;
  return (
    <section className="panel o1">
      <header>
        <h2>In words</h2>
        <span className="mute">from the alert itself, no language model used</span>
      </header>
      <div className="body">
        {own ? (
          <Sentences alert={alert} />
        ) : (
          <>
            <p className="prose">{summary}</p>
            {description && <p className="prose soft">{description}</p>}
          </>
        )}
        {own && (
          <details className="sent">
            <summary>The text that is sent</summary>
            <p className="soft">{summary}</p>
            {description && <p className="soft">{description}</p>}
          </details>
        )}
      </div>
    </section>
  );
}

function Sentences({ alert }: { alert: AlertState }): JSX.Element {
  const { annotations: notes, labels } = alert;
  const { observed, expected } = figures(alert);
  const end = endOf(alert);
  const peak = end === null ? undefined : notes['peak_observed'];
  const p = Number(notes['p_value']);
  const shares = contributions(notes['contributions']);
  return (
    <>
      <p className="prose">
        {alertEntity(labels)} left what is usual at <Time at={startOf(alert)} />
        {end !== null && (
          <>
            {' '}
            and came back at <Time at={end} />, {duration((end - startOf(alert)) / 1000)} later
          </>
        )}
        .{' '}
        {peak === undefined ? (
          <>
            At <Time at={Date.parse(alert.foreshock.decidedAt)} />, {said(labels, observed, true)}
          </>
        ) : (
          `At its worst, ${said(labels, quantity(Number(peak), notes['unit'] ?? '', labels['feature'] ?? ''), true)}`
        )}
        ; expected was {expected}.
      </p>
      <p className="prose soft">
        {notes['detector'] ? `${detectorName(notes['detector'])} found it.` : ''}
        {Number.isFinite(p) ? ` When all is well, a score this high has a p-value of ${scientific(p)}.` : ''}
        {shares.length > 1 ? ` Most of it is ${shares.map((one) => `${featureName(one.feature)} (${num(one.share)}${NB}%)`).join(', ')}.` : ''}
      </p>
    </>
  );
}
