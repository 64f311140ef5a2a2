import type { JSX, ReactNode } from 'react';

import { alertEntity, count, duration, entityName, featureName, labelsOf, num, quantity } from '../format';
import { useLive } from '../live';
import { MapPath, MapView } from '../map';
import { Icon, Mark } from '../marks';
import { AlertRow, announced, Failed, figures, KeySwatch, Loading, Panel, Sk, newest, SkeletonRows, Slots, Spark, startOf, Time } from '../parts';
import { useBudget, useChart, useControls, useHistory, useMap, useOpen, useSeriesList, useSources, useStrip } from '../queries';
import { alertPath, explorePath } from '../router';
import { headline, inOrder, pageState, type PageState } from '../state';
import { StripPanel } from '../strip';
import type { AlertState, BudgetView, SeriesState, ServiceMap } from '../types';

export function Now(): JSX.Element {
  const live = useLive();
  const open = useOpen();
  const map = useMap();
  const strip = useStrip();
  const budget = useBudget();
  const deploys = useControls('deploy');
  const state = open.isError && !open.data ? 'quiet' : pageState(live, open.data);
  if (state === 'loading') return <Skeleton />;
  if (state === 'empty') return <Empty />;
  const alerts = open.data ?? [];
  const end = live.link === 'lost' ? 'last known' : 'now';
  const calls = map.data && map.data.edges.length > 0 ? map.data : null;
  const firing = inOrder(alerts).loud.length > 0;
  return (
    <>
      {open.isError && !open.data ? (
        <div className="say">
          <h1>
            <Mark name="no" tint="fire" />
            Whether anything is wrong is not known. <span className="thin">The alerts could not be loaded; the rest goes on.</span>
          </h1>
        </div>
      ) : (
        <Sentence state={state} alerts={alerts} budget={budget.data} />
      )}
      <div className="grid even">
        {calls ? (
          <>
            <div className="c7">
              <MapPanel map={calls} open={alerts} />
            </div>
            <div className="c5">{firing || open.isError ? <OpenPanel alerts={alerts} failed={open.isError ? open.error : null} again={() => void open.refetch()} /> : <WouldPanel alerts={alerts} />}</div>
          </>
        ) : firing || open.isError ? (
          <div className="c12">
            <OpenPanel alerts={alerts} failed={open.isError ? open.error : null} again={() => void open.refetch()} />
          </div>
        ) : (
          <div className="c12">
            <WouldPanel alerts={alerts} />
          </div>
        )}
      </div>
      {strip.data ? (
        <StripPanel strip={strip.data} open={alerts} deploys={deploys.data ?? []} end={end} />
      ) : strip.isError ? (
        <Panel title="Every entity">
          <Failed what="The strip" error={strip.error} still="Alerts are shown as before." again={() => void strip.refetch()} />
        </Panel>
      ) : (
        <Panel title="Every entity">
          <Loading>
            <SkeletonRows rows={8} />
          </Loading>
        </Panel>
      )}
      <div className="grid even">
        <div className="c6">
          <BudgetPanel budget={budget.data} />
        </div>
        <div className="c6">
          <WatchPanel />
        </div>
      </div>
    </>
  );
}

/** Certain words are ink and bold, asides lighter; in the past tense where it is not known to hold still. */
function Sentence({ state, alerts, budget }: { state: PageState; alerts: AlertState[]; budget: BudgetView | undefined }): JSX.Element {
  const live = useLive();
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
          At <Time at={live.lostAt} seconds={false} />
        </span>{' '}
        {top ? <Claim alert={top} past /> : 'everything was well.'}
      </>
    );
  } else if (state === 'stale') {
    mark = <Mark name="stale" label="Stale" tint="risk" />;
    const since = Date.now() - (live.standing?.silent_seconds ?? 0) * 1000;
    said = (
      <>
        No data since <Time at={since} />. <span className="thin">Until then</span> {top ? <Claim alert={top} past /> : 'everything was well.'}
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
      {'client' in alert.labels ? `${featureName(feature)} of calls from ${alert.labels['client']} to ${alert.labels['server']}` : `${who}’s ${featureName(feature)}`}{' '}
      {past ? 'was' : 'is'} {value}, <span className="thin">expected {expected},</span> {since}.
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

function MapPanel({ map, open }: { map: ServiceMap; open: AlertState[] }): JSX.Element {
  const firing = inOrder(open).loud.length > 0;
  return (
    <section className="panel map live">
      <header>
        <h2>Service map</h2>
        <span className="mute">
          {firing ? 'Calls go down, the fault climbs up' : `${count(map.nodes.length, 'service')}, ${count(map.edges.length, 'kind of call', 'kinds of call')}`}
        </span>
        <div className="r">
          <span className="key">
            {firing && (
              <span>
                <Mark name="fire" />
                anomalous
              </span>
            )}
            <span>
              <Mark name="warming_up" />
              warming up
            </span>
          </span>
        </div>
      </header>
      <div className="body map-body">
        <MapView map={map} open={open} />
      </div>
      <MapPath map={map} open={open} />
    </section>
  );
}

const MOST_SHOWN = 6;

function OpenPanel({ alerts, failed, again }: { alerts: AlertState[]; failed: unknown; again: () => void }): JSX.Element {
  const { loud, small } = inOrder(alerts);
  return (
    <section className="panel live" aria-label="Open alerts">
      <header>
        <h2>Open</h2>
        <span className="mute">{count(loud.length, 'alert')}, {loud.filter(announced).length} announced</span>
        <div className="r">
          <a href="#/alerts">All alerts</a>
        </div>
      </header>
      {failed ? (
        <Failed what="The alerts" error={failed} still="They are still recorded and notified." again={again} />
      ) : (
        <>
          {loud.slice(0, MOST_SHOWN).map((one) => (
            <AlertRow key={one.foreshock.episode} alert={one} />
          ))}
          {loud.length > MOST_SHOWN && (
            <a className="sub more" href="#/alerts?status=firing">
              {loud.length - MOST_SHOWN} more
            </a>
          )}
          {small.length > 0 && <div className="sub">Visible, not announced</div>}
          {small.slice(0, loud.length > 3 ? 2 : 3).map((one) => (
            <AlertRow key={one.foreshock.episode} alert={one} />
          ))}
        </>
      )}
    </section>
  );
}

const TELLING = ['calls.rate', 'calls.error_ratio', 'calls.duration.p95', 'system.cpu.utilization', 'system.memory.utilization', 'system.network.io', 'container.cpu.utilization'];

/** The series that tell most at a glance; at most six, of as many entities as can be. */
export function telling(all: SeriesState[]): SeriesState[] {
  const out: SeriesState[] = [];
  const services = all.filter((one) => 'service.name' in labelsOf(one.entity));
  const pool = services.length ? services : all;
  for (let round = 0; out.length < 6 && round < TELLING.length; round++)
    for (const name of TELLING) {
      const found = pool.filter((one) => one.name === name && !out.includes(one));
      const used = new Set(out.map((one) => one.entity));
      const next = found.find((one) => !used.has(one.entity)) ?? (services.length ? undefined : found[0]);
      if (next && out.length < 6) out.push(next);
    }
  return out.length ? out : all.slice(0, 6);
}

function WouldPanel({ alerts }: { alerts: AlertState[] }): JSX.Element {
  const series = useSeriesList();
  const { small } = inOrder(alerts);
  return (
    <section className="panel live">
      <header>
        <h2>What would be noticed</h2>
        <span className="mute">How large a change, by what is usual now</span>
        <div className="r">
          <a href="#/alerts">All alerts</a>
        </div>
      </header>
      {series.data ? (
        <table className="tbl cards">
          <thead>
            <tr>
              <th>Series</th>
              <th className="num">Now</th>
              <th>Last hour</th>
              <th>Noticed when</th>
            </tr>
          </thead>
          <tbody>
            {telling(series.data).map((one) => (
              <Would key={one.entity + one.feature} series={one} />
            ))}
          </tbody>
        </table>
      ) : series.isError ? (
        <Failed what="The series" error={series.error} still="Alerts are shown as before." again={() => void series.refetch()} />
      ) : (
        <Loading>
          <SkeletonRows rows={6} />
        </Loading>
      )}
      {small.length > 0 && (
        <>
          <div className="sub">Unusual, not announced</div>
          {small.slice(0, 3).map((one) => (
            <AlertRow key={one.foreshock.episode} alert={one} />
          ))}
        </>
      )}
    </section>
  );
}

function Would({ series }: { series: SeriesState }): JSX.Element {
  const chart = useChart(series.entity, series.feature);
  const points = chart.data?.points;
  const i = points ? points.value.length - 1 : -1;
  const { unit, feature } = series;
  const [low, high] = [points?.low[i] ?? null, points?.high[i] ?? null];
  const said =
    low === null && high === null
      ? 'warming up'
      : [low !== null && low > 0 ? `below ${quantity(low, unit, feature)}` : '', high !== null ? `above ${quantity(high, unit, feature)}` : ''].filter(Boolean).join(' or ');
  return (
    <tr>
      <td>
        <a href={explorePath(series.entity, feature)}>
          <b>{entityName(labelsOf(series.entity))}</b> <span className="soft">{featureName(feature)}</span>
        </a>
      </td>
      <td className="num" data-l="Now">
        <b>{points ? quantity(points.value[i], unit, feature) : '–'}</b>
      </td>
      <td data-l="Last hour" className="spark-cell">
        <Spark points={points} width={96} height={24} />
      </td>
      <td data-l="Noticed when">{said}</td>
    </tr>
  );
}

function BudgetPanel({ budget }: { budget: BudgetView | undefined }): JSX.Element {
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

function WatchPanel(): JSX.Element {
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

function Skeleton(): JSX.Element {
  return (
    <Loading>
      <div className="page">
        <div className="say">
          <div className="wide">
            <h1 className="vh">Loading</h1>
            <Sk w="62%" h={28} />
          </div>
        </div>
        <div className="grid even">
          <div className="c7 panel">
            <header>
              <Sk w="96px" />
            </header>
            <div className="sk-map">
              {[1, 1, 5, 4, 2].map((n, row) => (
                <div key={row}>
                  {Array.from({ length: n }, (_, i) => (
                    <Sk key={i} w="16%" h={44} />
                  ))}
                </div>
              ))}
            </div>
          </div>
          <div className="c5 panel">
            <header>
              <Sk w="64px" />
            </header>
            <SkeletonRows rows={5} />
          </div>
        </div>
        <div className="panel">
          <header>
            <Sk w="128px" />
          </header>
          <SkeletonRows rows={10} />
        </div>
      </div>
    </Loading>
  );
}

const here = (): string => location.origin;

const WAYS = (): [string, string, string, string][] => [
  ['Follow Prometheus', 'Foreshock reads it and finds out what is worth watching.', 'sources:\n  - prometheus: {url: "http://127.0.0.1:9090"}', 'It reads the last seven days first, so it judges at once.'],
  ['Send calls between services', 'A recorder in the application, or one line of JSON a call.', `curl ${here()}/collect \\\n  -H 'Content-Type: application/json' \\\n  -d '{"source": "checkout", "target": "payment", "status": 200, "duration": 0.012}'`, 'Calls also draw the service map.'],
  ['Just look around', 'A shop of twelve services that really breaks.', 'foreshock demo', 'Needs nothing else. The first fault comes after 20 s.'],
];

function Empty(): JSX.Element {
  return (
    <>
      <div className="say">
        <div>
          <h1>
            <Mark name="ring" label="Nothing yet" />
            Nothing sends data yet. <span className="thin">Pick one of three ways to start.</span>
          </h1>
          <div className="meta">
            <span>This page changes by itself when the first sample arrives.</span>
          </div>
        </div>
      </div>
      <div className="ways">
        {WAYS().map(([title, says, code, next]) => (
          <section className="panel" key={title}>
            <header>
              <h2>{title}</h2>
            </header>
            <div className="body">
              <p className="soft">{says}</p>
              <pre tabIndex={0}>
                <code>{code}</code>
              </pre>
              <p className="with-copy">
                <button className="btn" type="button" onClick={() => void navigator.clipboard?.writeText(code)}>
                  <Icon name="copy" />
                  Copy
                </button>
                <span className="mute small">{next}</span>
              </p>
            </div>
          </section>
        ))}
      </div>
    </>
  );
}

export const BandKey = (): JSX.Element => (
  <span className="key">
    <span>
      <KeySwatch kind="band" />
      expected
    </span>
    <span>
      <KeySwatch kind="missing" />
      missing
    </span>
    <span>
      <KeySwatch kind="excluded" />
      excluded
    </span>
  </span>
);
