import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState, type JSX, type ReactNode } from 'react';

import { label as sendLabel, ApiError } from '../api';
import { BandChart, reading, stretches } from '../chart';
import { alertEntity, duration, featureName, NB, num, quantity, span } from '../format';
import { useLive, useWanted } from '../live';
import { Icon, Mark, type MarkName } from '../marks';
import { announced, endOf, Failed, figures, KeySwatch, Loading, loudOf, Panel, SkeletonRows, startOf, Time } from '../parts';
import { useAlert, useChart, useControls, useHistory, useOpen, useSeriesList } from '../queries';
import { alertPath, explorePath } from '../router';
import type { AlertState, Chart, Label, SeriesState } from '../types';

export function AlertPage({ episode }: { episode: string }): JSX.Element {
  const alert = useAlert(episode);
  if (alert.data) return <Story key={episode} alert={alert.data} />;
  if (alert.isError) {
    const gone = alert.error instanceof ApiError && alert.error.status === 404;
    return (
      <Panel title="Alert">
        <Failed
          what={gone ? 'This alert is not here, or not any more: it' : 'This alert'}
          error={alert.error}
          still="Open alerts stand on the page Now."
          again={() => void alert.refetch()}
        />
      </Panel>
    );
  }
  return (
    <Loading>
      <SkeletonRows rows={8} />
    </Loading>
  );
}

function Story({ alert }: { alert: AlertState }): JSX.Element {
  const { entity, feature, kind } = alert.foreshock;
  const own = useChart(entity, feature);
  return (
    <>
      <div className="title">
        <p className="crumb">
          <a href="#/now">Now</a>
          <span>/</span>
          <a href="#/alerts">Alerts</a>
        </p>
        <Head alert={alert} />
      </div>
      <div className="grid case">
        <div className="c8 stack">
          {feature && entity && (
            <section className="panel o2">
              <header>
                <h2>
                  {alertEntity(alert.labels)}, {featureName(feature)}
                </h2>
                <code className="mute hide-phone">{feature}</code>
                <div className="r">
                  <a href={explorePath(entity, feature)}>Explore</a>
                </div>
              </header>
              {own.data ? <Observed chart={own.data} alert={alert} /> : own.isError ? <Failed what="The series" error={own.error} still="What the alert itself says stands here." again={() => void own.refetch()} /> : <Loading><div className="body"><SkeletonRows rows={6} /></div></Loading>}
            </section>
          )}
          <section className="panel o1">
            <header>
              <h2>In words</h2>
              <span className="mute">from the alert itself, no language model used</span>
            </header>
            <div className="body">
              <p className="prose">{alert.annotations['summary']}</p>
              {alert.annotations['description'] && <p className="prose soft">{alert.annotations['description']}</p>}
            </div>
          </section>
          <div className="grid even">
            <div className="c5">
              <Contributions alert={alert} />
            </div>
            <div className="c7">{own.data ? <Opinions chart={own.data} alert={alert} /> : null}</div>
          </div>
          {entity && kind !== 'silence' && <Others entity={entity} feature={feature ?? ''} alert={alert} />}
        </div>
        <div className="c4 stack">
          <Feedback alert={alert} />
          <Timeline alert={alert} />
          <Before alert={alert} />
        </div>
      </div>
    </>
  );
}

function Head({ alert }: { alert: AlertState }): JSX.Element {
  const { observed, expected } = figures(alert);
  const who = alertEntity(alert.labels);
  const what = featureName(alert.labels['feature']);
  const open = useOpen();
  const start = startOf(alert);
  const end = endOf(alert);
  const firing = end === null;
  const said = ((): ReactNode => {
    if (alert.foreshock.kind === 'silence') return <>{who} {firing ? 'sends nothing.' : 'sent nothing.'}</>;
    if (alert.foreshock.kind === 'change') return <>{who}’s {what} {firing ? 'takes' : 'took'} a course <span className="thin">that it has not taken before.</span></>;
    if (!observed) return <>{who} {firing ? 'is' : 'was'} unusual as a whole.</>;
    const peak = alert.annotations['peak_observed'];
    const value = !firing && peak !== undefined ? quantity(Number(peak), alert.annotations['unit'] ?? '', alert.labels['feature'] ?? '') : observed;
    return <>{who}’s {what} {firing ? 'is' : 'was'} {firing ? value : `up to ${value}`}, <span className="thin">expected {expected}.</span></>;
  })();
  const decided = Date.parse(alert.foreshock.decidedAt);
  return (
    <div className="say">
      <div>
        <h1>
          <Mark name={firing ? 'fire' : 'good'} label={firing ? 'Firing' : 'Resolved'} />
          {said}
        </h1>
        <div className="meta">
          <span className={`tag ${firing ? 'fire' : 'good'}`}>
            <Mark name={firing ? 'fire' : 'good'} />
            {firing ? 'firing' : 'resolved'}
          </span>
          {firing ? (
            <span>
              since <Time at={start} />, <Elapsed since={start} />
            </span>
          ) : (
            <span>
              <Time at={start} /> to <Time at={end} />, {duration((end - start) / 1000)}
            </span>
          )}
          <span>{announced(alert) ? 'announced' : loudOf(open.data ?? [])(alert) ? 'announced with its group' : 'visible, not announced'}</span>
          <span>{alert.labels['severity']}</span>
          {firing && decided > start && <span>decided <Time at={decided} /></span>}
          {alert.annotations['flapping'] === 'true' && <span className="tag dash">comes and goes</span>}
        </div>
      </div>
      <div className="acts">
        <CopyLink />
      </div>
    </div>
  );
}

function Elapsed({ since }: { since: number }): JSX.Element {
  // The page is drawn anew each second, with what is told of the process.
  const { standing } = useLive();
  const now = standing ? standing.now_unix_seconds * 1000 : Date.now();
  return <>{duration(Math.max(0, (now - since) / 1000))}</>;
}

function CopyLink(): JSX.Element {
  const [done, setDone] = useState(false);
  return (
    <button
      className="btn"
      type="button"
      onClick={() => {
        void navigator.clipboard?.writeText(location.href);
        setDone(true);
        setTimeout(() => setDone(false), 1500);
      }}
    >
      <Icon name="link" />
      {done ? 'Copied' : 'Copy link'}
    </button>
  );
}

/** Where the alert says that it was anomalous: from its start to its end, or to now. */
export const anomalousPart = (alert: AlertState, chart: Chart): [number, number][] => {
  const start = startOf(alert) / 1000;
  const end = endOf(alert);
  const newest = chart.points.time_unix_seconds.at(-1) ?? start;
  return [[start, end === null ? Math.max(newest, start) : end / 1000]];
};

function Observed({ chart, alert }: { chart: Chart; alert: AlertState }): JSX.Element {
  const [index, setIndex] = useState<number | null>(null);
  const [time, value, expected] = reading(chart.points, index, chart.unit, chart.feature);
  const deploys = useControls('deploy');
  const marks = (deploys.data ?? []).map((one) => ({ at: one.effective_unix_nano / 1e9, text: one.comment || 'deploy' }));
  const has = new Set(stretches(chart.points).map((one) => one.kind));
  return (
    <>
      <div className="read">
        <span>{time}</span>
        <span>
          observed <b>{value}</b>
        </span>
        <span>
          expected <b>{expected}</b>
        </span>
        <span className="key end">
          <span>
            <KeySwatch kind="band" />
            expected
          </span>
          {has.has('missing') && (
            <span>
              <KeySwatch kind="missing" />
              missing
            </span>
          )}
          {has.has('excluded') && (
            <span>
              <KeySwatch kind="excluded" />
              excluded
            </span>
          )}
        </span>
      </div>
      <div className="chart-body">
        <BandChart
          points={chart.points}
          unit={chart.unit}
          feature={chart.feature}
          height={264}
          anomalous={anomalousPart(alert, chart)}
          marks={marks}
          group="alert"
          onCursor={setIndex}
          label={`Observed ${featureName(chart.feature)} with its expected band, now ${value}. Left and right arrow keys move the cursor.`}
        />
      </div>
    </>
  );
}

/** "latency=99 %, requests=1 %" → the features and their share. */
export function contributions(text: string | undefined): { feature: string; share: number }[] {
  if (!text) return [];
  return [...text.matchAll(/(.+?)=([\d.]+)[\s\u00a0\u202f]*%(?:, |$)/g)].map((m) => ({ feature: m[1]!, share: Number(m[2]) }));
}

function Contributions({ alert }: { alert: AlertState }): JSX.Element {
  const found = contributions(alert.annotations['contributions']);
  const most = Math.max(1, ...found.map((one) => one.share));
  return (
    <Panel title={`What made ${alertEntity(alert.labels)} stand out`} aside="share of the score">
      <div className="body">
        {found.length ? (
          <ul className="bars over">
            {found.map((one, i) => (
              <li key={one.feature} className={i === 0 ? 'top' : ''}>
                <span>
                  <b>{featureName(one.feature)}</b>
                </span>
                <span className="bar">
                  <i style={{ width: `${(one.share / most) * 100}%` }} />
                </span>
                <span className="num">
                  {num(one.share)}
                  {NB}%
                </span>
              </li>
            ))}
          </ul>
        ) : (
          <p className="soft">{alert.foreshock.kind === 'silence' ? 'Nothing arrives, so nothing can be compared.' : 'No shares were given.'}</p>
        )}
      </div>
    </Panel>
  );
}

const DETECTORS: Record<string, string> = {
  deviation: 'Deviation', linear: 'Joint forecast', robust_z: 'Robust z', zscore: 'z-score',
};
export const detectorName = (name: string): string => DETECTORS[name] ?? name;

function Opinions({ chart, alert }: { chart: Chart; alert: AlertState }): JSX.Element {
  const [from, to] = anomalousPart(alert, chart)[0]!;
  const t = chart.points.time_unix_seconds;
  return (
    <Panel title="Each detector’s opinion" right={`of ${featureName(chart.feature)}, at the worst`}>
      <div className="scroll" tabIndex={0} role="region" aria-label="Opinions">
        <table className="tbl tight">
          <thead>
            <tr>
              <th>Detector</th>
              <th>Verdict</th>
              <th className="num">Score / bar</th>
              <th className="num">p-value</th>
              <th className="num">Since</th>
            </tr>
          </thead>
          <tbody>
            {chart.detectors.map((one) => {
              const worst = worstOf(one.ratio, t, from, to);
              const since = t.find((at, i) => at >= from && at <= to && (one.ratio[i] ?? 0) >= 1);
              const p = worst === null ? null : one.p_value[worst] ?? null;
              const ratio = worst === null ? null : one.ratio[worst]!;
              return (
                <tr key={one.detector}>
                  <td>
                    {detectorName(one.detector)}
                    {one.whole && <small>of the whole entity</small>}
                  </td>
                  <td>
                    <span className="st">
                      {ratio === null ? (
                        <>
                          <Mark name="warming_up" />
                          not judged
                        </>
                      ) : ratio >= 1 ? (
                        <>
                          <Mark name="fire" />
                          <span className="fire">anomalous</span>
                        </>
                      ) : (
                        <>
                          <Mark name="ok" />
                          usual
                        </>
                      )}
                    </span>
                  </td>
                  <td className="num">{ratio === null ? '–' : <b>{num(ratio)} ×</b>}</td>
                  <td className="num">{p === null ? '–' : scientific(p)}</td>
                  <td className="num">{since === undefined ? '–' : <Time at={since * 1000} />}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}

function worstOf(ratio: (number | null)[], t: number[], from: number, to: number): number | null {
  let best: number | null = null;
  for (let i = 0; i < t.length; i++) {
    const v = ratio[i];
    if (v == null || t[i]! < from || t[i]! > to) continue;
    if (best === null || v > ratio[best]!) best = i;
  }
  return best;
}

/** "2 × 10⁻⁵". */
export function scientific(p: number): string {
  if (!(p > 0)) return p === 0 ? 'under 10⁻⁹' : '–';
  if (p >= 0.001) return num(p);
  const e = Math.floor(Math.log10(p));
  const digits = String(-e).replace(/\d/g, (d) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(d)]!);
  return `${Math.round(p / 10 ** e)} × 10⁻${digits}`;
}

const MOST_OTHERS = 8;

function Others({ entity, feature, alert }: { entity: string; feature: string; alert: AlertState }): JSX.Element | null {
  const all = useSeriesList();
  const named = contributions(alert.annotations['contributions']).map((one) => one.feature);
  const rank = (one: SeriesState): number => {
    const at = named.indexOf(one.feature);
    return at < 0 ? 99 : at;
  };
  const others = (all.data ?? []).filter((one) => one.entity === entity && one.feature !== feature).sort((a, b) => rank(a) - rank(b));
  if (all.data && !others.length) return null;
  return (
    <Panel title={`${alertEntity(alert.labels)}’s other series`} aside="same time axis; move over one to read all">
      <div className="multi">
        {others.slice(0, MOST_OTHERS).map((one) => (
          <Other key={one.feature} series={one} alert={alert} />
        ))}
      </div>
      {others.length > MOST_OTHERS && (
        <p className="sub">
          <a href={explorePath(entity)}>{others.length - MOST_OTHERS} more in Explore</a>
        </p>
      )}
    </Panel>
  );
}

function Other({ series, alert }: { series: SeriesState; alert: AlertState }): JSX.Element {
  const chart = useChart(series.entity, series.feature);
  useWanted([[series.entity, series.feature]]);
  const [index, setIndex] = useState<number | null>(null);
  const data = chart.data;
  if (!data) return <figure><SkeletonRows rows={2} /></figure>;
  const { points, unit, feature } = data;
  const i = index ?? points.value.length - 1;
  const [from, to] = anomalousPart(alert, data)[0]!;
  const hot = points.time_unix_seconds.flatMap((t, j) => (points.anomalous[j] && t >= from - 300 && t <= to ? [t] : []));
  const part: [number, number][] = hot.length ? [[hot[0]!, hot.at(-1)!]] : [];
  return (
    <figure>
      <figcaption>
        <Mark name={part.length ? 'fire' : 'ok'} label={part.length ? 'anomalous' : 'usual'} />
        <b>{featureName(feature)}</b>
        <span className="rd">
          <b>{quantity(points.value[i], unit, feature)}</b>
          <span className="hide-phone">, expected {span(points.low[i] ?? null, points.high[i] ?? null, unit, feature)}</span>
        </span>
      </figcaption>
      <BandChart points={points} unit={unit} feature={feature} height={84} thin anomalous={part} group="alert" onCursor={setIndex} label={`${featureName(feature)}, now ${quantity(points.value.at(-1), unit, feature)}`} />
    </figure>
  );
}

const JUDGE: [Label, MarkName, string, string][] = [
  ['true', 'good', 'Real', 'Counts as a true alarm of the detector that found it.'],
  ['false', 'no', 'False alarm', 'Counts against the detector that found it. The bar itself learns from how often it is passed.'],
  ['expected', 'excluded', 'Expected from now on', 'Starts anew what is usual for this entity. It warms up and is judged by the new normal.'],
];

function Feedback({ alert }: { alert: AlertState }): JSX.Element {
  const cache = useQueryClient();
  const { link } = useLive();
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

function Timeline({ alert }: { alert: AlertState }): JSX.Element {
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

function Before({ alert }: { alert: AlertState }): JSX.Element | null {
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
