import type { JSX } from 'react';

import { count, detectorName, duration, num } from '../format';
import { Mark } from '../marks';
import { useBudget, useDetectors } from '../queries';
import { HalfAndMost, Loaded, Table, twoLines, type Column } from '../table';
import type { BudgetView, DetectorState } from '../types';

export function Detectors(): JSX.Element {
  const found = useDetectors();
  const budget = useBudget();
  const list = found.data ?? [];
  const primary = list.filter((one) => one.role === 'primary').length;
  const warming = list.filter((one) => !one.judging).length;
  const achieved = budget.data?.achieved_ratio['environment'];
  return (
    <>
      <div className="title">
        <h1>Detectors</h1>
        {found.data && (
          <p>
            {primary} of {list.length} {primary === 1 ? 'decides' : 'decide'} alarms.{warming ? ` ${warming} ${warming === 1 ? 'is' : 'are'} warming up.` : ''}
            {budget.data && achieved !== undefined ? ` Together they announce ${num(achieved * budget.data.environment_per_day)} a day, of a budget of ${num(budget.data.environment_per_day)}.` : ''}
          </p>
        )}
      </div>
      <section className="panel">
        <header>
          <h2>Budget</h2>
          <span className="mute">the one number to tune: how many notifications a day you will bear</span>
        </header>
        <div className="body budget">
          <Loaded query={budget} what="The budget" still="Detection goes on." rows={2}>
            {(one) => (
              <>
                <p className="soft">
                  At <b>{num(one.environment_per_day)} a day</b> the last 30 days had <b>{count(total(one, 'notified'), 'notification')}</b>: {total(one, 'true_alerts')} called real (filled),{' '}
                  {total(one, 'false_alerts')} called false (hollow), the others not labelled (grey). It is set by <code>budget.environment</code> in the <a href="#/settings">settings</a>.
                </p>
                <Days budget={one} />
              </>
            )}
          </Loaded>
        </div>
      </section>
      <section className="panel">
        <Loaded query={found} what="The detectors" still="Detection goes on.">
          {(rows) => <Table label="Detectors" columns={COLUMNS} rows={rows} keyOf={(one) => one.name} />}
        </Loaded>
      </section>
    </>
  );
}

const total = (budget: BudgetView, name: 'notified' | 'true_alerts' | 'false_alerts'): number => budget.days.reduce((sum, day) => sum + day[name], 0);

const COLUMNS: Column<DetectorState>[] = [
  {
    name: 'Detector',
    cell: (one) => (
      <>
        <b>{detectorName(one.name)}</b> <code className="mute">{one.type}</code>
        <small>{one.kind === 'univariate' ? 'each series by itself' : 'all series of an entity together'}</small>
      </>
    ),
  },
  { name: 'State', cell: (one) => <State one={one} /> },
  {
    name: (
      <>
        Alarms a series or entity and day
        <br />
        achieved, <span aria-hidden="true">┃</span> budget
      </>
    ),
    label: 'Achieved, budget',
    cell: (one) => <Spent one={one} />,
  },
  {
    name: twoLines('True / false', 'by labels'), label: 'True / false', num: true,
    cell: (one) => (
      <>
        <b>{one.true_positives}</b> / {one.false_positives}
      </>
    ),
  },
  { name: 'Rows over the bar', label: 'Over the bar', num: true, cell: (one) => one.anomalies.toLocaleString('en') },
  { name: twoLines('Latency a batch', 'median, p99'), label: 'Latency, p99', num: true, cell: (one) => <HalfAndMost half={one.latency_p50_seconds} most={one.latency_p99_seconds} /> },
  { name: twoLines('Throughput', 'rows/s at work'), label: 'Rows/s at work', num: true, cell: (one) => num(one.rows_per_second) },
];

function State({ one }: { one: DetectorState }): JSX.Element {
  const share = one.of ? Math.round((one.judging / one.of) * 100) : 0;
  const [what, whats] = one.kind === 'univariate' ? ['series', 'series'] : ['entity', 'entities'];
  return (
    <>
      <span className="st">
        {one.role === 'shadow' ? (
          <>
            <Mark name="ring" />
            shadow
          </>
        ) : one.judging ? (
          <>
            <Mark name="live" tint="soft" />
            live
          </>
        ) : (
          <>
            <Mark name="warming_up" />
            warming up
          </>
        )}
      </span>
      <small>
        {one.role === 'shadow' ? 'scores, does not alarm' : `judges ${one.judging} of ${count(one.of, what, whats)}${share < 100 && one.warm_up_seconds ? `; ${duration(one.warm_up_seconds)} to warm up` : ''}`}
      </small>
    </>
  );
}

function Spent({ one }: { one: DetectorState }): JSX.Element {
  const over = one.budget_per_day !== null && one.achieved_per_day !== null && one.achieved_per_day > one.budget_per_day;
  return (
    <>
      <span className="with-bar">
        <Bar budget={one.budget_per_day} achieved={one.achieved_per_day} over={over} />
        <span className="nw">
          <b>{num(one.achieved_per_day)}</b> <span className="mute">of {one.budget_per_day === null ? 'no budget' : num(one.budget_per_day)}</span>
        </span>
      </span>
      {over && (
        <small className="risk nw">
          <Mark name="risk" /> over its budget
        </small>
      )}
    </>
  );
}

function Bar({ budget, achieved, over }: { budget: number | null; achieved: number | null; over: boolean }): JSX.Element {
  const most = Math.max((budget ?? 0) * 2, (achieved ?? 0) * 1.05, 0.01);
  const x = (v: number): number => (v / most) * 120;
  return (
    <svg className="bud" width="128" height="16" viewBox="0 0 128 16" preserveAspectRatio="none" role="img" aria-label={`achieved ${achieved === null ? 'nothing yet' : num(achieved)}, budget ${budget === null ? 'none' : num(budget)}`}>
      <rect y="5" width="120" height="6" rx="2" fill="var(--sunken)" />
      {achieved !== null && <rect y="5" width={x(achieved)} height="6" rx="2" fill={over ? 'var(--risk-mark)' : 'var(--busy)'} />}
      {budget !== null && <path d={`M${x(budget)} 1v14`} stroke="var(--ink)" strokeWidth="2" />}
    </svg>
  );
}

const MOST_SQUARES = 8;

/** A square a notification, a column a day; numbers where there are too many to draw. */
function Days({ budget }: { budget: BudgetView }): JSX.Element {
  const most = Math.max(...budget.days.map((day) => day.notified));
  const each = Math.max(1, Math.ceil(most / MOST_SQUARES));
  const rows = Math.max(3, Math.ceil(most / each));
  const height = 4 + rows * 14;
  return (
    <div className="units">
      <svg viewBox={`0 0 480 ${height}`} role="img" aria-label={`${total(budget, 'notified')} notifications in 30 days, at most ${most} on one day`}>
        {budget.days.map((day, i) =>
          Array.from({ length: Math.ceil(day.notified / each) }, (_, j) => {
            const place = { x: i * 16 + 2.75, y: height - 14 - j * 14, width: 10.5, height: 10.5, rx: 2 };
            const kind = j * each < day.true_alerts ? 'real' : j * each < day.true_alerts + day.false_alerts ? 'false' : 'none';
            return <rect key={`${i}.${j}`} {...place} className={`unit ${kind}`} />;
          }),
        )}
        <path d={`M0 ${height - 0.5}h480`} stroke="var(--line-strong)" />
      </svg>
      <p>
        <span>{budget.days[0]?.day}</span>
        {each > 1 && <span>a square is {each} notifications</span>}
        <span>today</span>
      </p>
    </div>
  );
}
