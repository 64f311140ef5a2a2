import type { JSX, ReactNode } from 'react';

import { duration, num } from '../../format';
import { useLive } from '../../live';
import { Panel, SkeletonRows, Slots } from '../../parts';
import { useSources } from '../../queries';
import type { BudgetView } from '../../types';

export function BudgetPanel({ budget }: { budget: BudgetView | undefined }): JSX.Element {
  return (
    <Panel title="Notifications" className="live" right={<a href="#/detectors">Detectors</a>}>
      <div className="body">
        {budget ? (
          <>
            <p className="big-number">
              <b>
                {budget.notified_today} of {num(budget.environment_per_day)}
              </b>
              <Slots used={budget.notified_today} of={budget.environment_per_day} />
              <span className="soft">used today</span>
            </p>
            <dl className="kv">
              <div>
                <dt>Achieved, last 30 days</dt>
                <dd>
                  {budget.achieved_ratio['environment'] === undefined ? (
                    'no full day yet'
                  ) : (
                    <>
                      <b>{num(budget.achieved_ratio['environment'] * budget.environment_per_day)}</b> a day
                    </>
                  )}
                </dd>
              </div>
              <div>
                <dt>Your budget</dt>
                <dd>
                  <b>{num(budget.environment_per_day)}</b> a day
                </dd>
              </div>
              <div>
                <dt>Held back today</dt>
                <dd>
                  <b>{budget.held_back_today}</b>, visible
                </dd>
              </div>
            </dl>
          </>
        ) : (
          <SkeletonRows rows={3} />
        )}
      </div>
    </Panel>
  );
}

export function WatchPanel(): JSX.Element {
  const { standing, entities } = useLive();
  const sources = useSources();
  const rate = sources.data?.sources.reduce((sum, one) => sum + one.samples_per_second, 0);
  const dropped = sources.data?.dropped.reduce((sum, one) => sum + one.count, 0);
  const warming = [...entities.values()].filter((one) => one[1] === 'warming_up').length;
  const rows: [string, ReactNode][] = [
    ['Entities', <><b>{standing?.entities ?? '–'}</b>{warming ? `, ${warming} warming up` : ''}</>],
    ['Series', <><b>{standing ? standing.series.toLocaleString('en') : '–'}</b>{standing?.series_not_viewed ? `, ${standing.series_not_viewed} judged but not shown` : ''}</>],
    ['Samples', <><b>{rate === undefined ? '–' : num(rate)}</b>/s</>],
    ['Last data', <><b>{standing?.silent_seconds == null ? '–' : duration(Math.max(1, standing.silent_seconds))}</b> ago</>],
    ['Not used since the start', <b>{dropped === undefined ? '–' : dropped.toLocaleString('en')}</b>],
  ];
  return (
    <Panel title="What is watched" className="live" right={<a href="#/sources">Sources</a>}>
      <div className="body">
        <dl className="kv">
          {rows.map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
        </dl>
      </div>
    </Panel>
  );
}
