import type { JSX, ReactNode } from 'react';

import { alertEntity, count, duration, num, quantity, said } from '../../format';
import { useLive } from '../../live';
import { Mark } from '../../marks';
import { figures, newest, Slots, startOf, Time } from '../../parts';
import { useChart, useHistory } from '../../queries';
import { alertPath } from '../../router';
import { headline, inOrder, type PageState } from '../../state';
import type { AlertState, BudgetView } from '../../types';

/** Certain words are ink and bold, asides lighter; in the past tense where it is not known to hold still. */
export function Sentence({ state, alerts, budget }: { state: PageState; alerts: AlertState[]; budget: BudgetView | undefined }): JSX.Element {
  const lostAt = useLive((live) => live.lostAt);
  const silentSince = useLive((live) => Math.round((live.standing?.now_unix_seconds ?? 0) - (live.standing?.silent_seconds ?? 0)) * 1000);
  const { loud, small } = inOrder(alerts);
  const top = headline(alerts);
  const past = state === 'disconnected' || state === 'stale';
  let mark: JSX.Element = <Mark name="ok" label="All well" tint="soft" />;
  let said: ReactNode = (
    <>
      Everything is well. <Since />
    </>
  );
  if (state === 'learning') {
    mark = <Mark name="warming_up" label="Learning" />;
    said = (
      <>
        Learning what is usual. <span className="thin">Nothing is judged yet, so nothing is called normal.</span>
      </>
    );
  } else if (top) {
    mark = <Mark name="fire" label="Firing" {...(past ? { tint: 'soft' } : {})} />;
    const others = loud.length - 1;
    said = (
      <>
        <Claim alert={top} past={past} />{' '}
        {others > 0 && <span className="thin">{count(others, 'more alert')} {others === 1 ? 'belongs' : 'belong'} to it.</span>}
      </>
    );
  } else if (state === 'small' || small.some((one) => one.foreshock.kind !== 'change')) {
    mark = <Mark name="small" label="Nothing announced" tint="soft" />;
    const n = small.filter((one) => one.foreshock.kind !== 'change').length;
    said = (
      <>
        Nothing needs you. <span className="thin">{count(n, 'thing is', 'things are')} unusual, too little to be announced.</span>
      </>
    );
  }
  if (state === 'disconnected') {
    mark = <Mark name="down" label="Not connected" tint="soft" />;
    said = (
      <>
        <span className="thin">
          At <Time at={lostAt} seconds={false} />
        </span>{' '}
        {top ? <Claim alert={top} past /> : 'everything was well.'}
      </>
    );
  } else if (state === 'stale') {
    mark = <Mark name="stale" label="Stale" tint="risk" />;
    said = (
      <>
        No data since <Time at={silentSince} />. <span className="thin">Until then</span> {top ? <Claim alert={top} past /> : 'everything was well.'}
      </>
    );
  }
  return (
    <div className="say" aria-live="polite">
      <div>
        <h1>
          {mark}
          {said}
        </h1>
        <Meta budget={budget} state={state} />
      </div>
      {top && (
        <div className="acts">
          <a className="btn main-act" href={alertPath(top.foreshock.episode)}>
            Open alert
          </a>
        </div>
      )}
    </div>
  );
}

/** "payment’s error ratio is 41 %, expected 0 to 1 %, since 12:04:10". */
function Claim({ alert, past }: { alert: AlertState; past: boolean }): JSX.Element {
  const who = alertEntity(alert.labels);
  const { observed, expected } = figures(alert);
  const chart = useChart(alert.foreshock.entity, alert.foreshock.feature);
  const since = (
    <>
      since <Time at={startOf(alert)} seconds={false} />
    </>
  );
  if (alert.foreshock.kind === 'silence')
    return (
      <>
        {who} {past ? 'had' : 'has'} sent nothing {since}.
      </>
    );
  const feature = alert.labels['feature'];
  const current = past ? null : newest(chart.data?.points);
  const value = current === null ? observed : quantity(current, chart.data?.unit, feature);
  if (!feature || !observed)
    return (
      <>
        {who} {past ? 'was' : 'is'} unusual as a whole {since}.
      </>
    );
  return (
    <>
      {said(alert.labels, value, past)}, <span className="thin">expected {expected},</span> {since}.
    </>
  );
}

function Since(): JSX.Element | null {
  const past = useHistory({ status: 'resolved' });
  const last = past.data?.pages[0]?.alerts.find((one) => one.foreshock.notified);
  if (!past.data) return null;
  if (!last) return <span className="thin">Nothing unusual so far.</span>;
  return (
    <span className="thin">
      Nothing unusual since <Time at={Date.parse(last.endsAt)} seconds={false} />.
    </span>
  );
}

function Meta({ budget, state }: { budget: BudgetView | undefined; state: PageState }): JSX.Element {
  const { standing, link, lostAt, entities } = useLive();
  const judged = [...entities.values()].filter((one) => one[1] === 'scored').length;
  const behind = standing?.silent_seconds;
  return (
    <div className="meta">
      {link === 'lost' && (
        <span>
          Known at <Time at={lostAt} />, not confirmed since
        </span>
      )}
      {budget && (
        <span>
          <Slots used={budget.notified_today} of={budget.environment_per_day} />{' '}
          {budget.notified_today} of {num(budget.environment_per_day)} notifications used today
        </span>
      )}
      {standing && link === 'live' && state !== 'stale' && (
        <span>
          {count(standing.series, 'series', 'series')} watched{behind != null && behind < 60 ? `, last data ${duration(Math.max(1, behind))} ago` : ''}
        </span>
      )}
      {entities.size > 0 && judged < entities.size && link === 'live' && (
        <span>
          {judged} of {entities.size} entities are judged
        </span>
      )}
    </div>
  );
}
