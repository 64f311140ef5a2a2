import { useMemo, useState, type JSX } from 'react';

import { BandChart, reading, stretches } from '../chart';
import { count, detectorName, entityName, featureName, labelsOf, num } from '../format';
import { useLive } from '../live';
import { KeySwatch, Failed, Loading, loudOf, Panel, Seg, SkeletonRows, Time } from '../parts';
import { Mark, type MarkName } from '../marks';
import { useChart, useControls, useHistory, useOpen, useSeriesList } from '../queries';
import { alertPath, explorePath, go } from '../router';
import type { Chart, ChartPoints, SeriesState } from '../types';

export function Explore({ query }: { query: URLSearchParams }): JSX.Element {
  const all = useSeriesList();
  const entity = query.get('entity') ?? '';
  const feature = query.get('feature') ?? '';
  const list = all.data ?? [];
  const chosen =
    list.find((one) => one.entity === entity && one.feature === feature) ?? list.find((one) => one.entity === entity) ?? (entity ? undefined : (list.find((one) => 'service.name' in labelsOf(one.entity) && one.feature === 'calls.error_ratio') ?? list[0]));
  return (
    <>
      <div className="title">
        <h1>Explore</h1>
      </div>
      <div className="xp">
        <Picker list={list} chosen={chosen} loading={all.isPending} />
        <div className="stack">
          {all.isError && !all.data ? (
            <Panel title="Series">
              <Failed what="The list of series" error={all.error} still="Alerts are shown as before." again={() => void all.refetch()} />
            </Panel>
          ) : chosen ? (
            <One key={chosen.entity + chosen.feature} series={chosen} />
          ) : all.isPending ? (
            <Panel title="Series">
              <Loading>
                <SkeletonRows rows={8} />
              </Loading>
            </Panel>
          ) : (
            <Panel title="Series">
              <p className="body soft">{entity ? 'There is no such series in view, or not any more.' : 'There are no series yet. They appear when the first sample arrives.'}</p>
            </Panel>
          )}
        </div>
      </div>
    </>
  );
}

const MOST_ENTITIES = 60;

function Picker({ list, chosen, loading }: { list: SeriesState[]; chosen: SeriesState | undefined; loading: boolean }): JSX.Element {
  const [text, setText] = useState('');
  const { entities } = useLive();
  const open = useOpen();
  const groups = useMemo(() => {
    const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
    const out = new Map<string, SeriesState[]>();
    for (const one of list) {
      const said = `${entityName(labelsOf(one.entity))} ${featureName(one.feature)} ${one.feature} ${one.entity}`.toLowerCase();
      if (wanted.every((word) => said.includes(word))) out.set(one.entity, [...(out.get(one.entity) ?? []), one]);
    }
    return out;
  }, [list, text]);
  const hot = new Map((open.data ?? []).filter((one) => one.foreshock.entity).map((one) => [one.foreshock.entity! + (one.foreshock.feature ?? ''), one]));
  const isLoud = loudOf(open.data ?? []);
  const markFor = (one: SeriesState): MarkName => {
    const alert = hot.get(one.entity + one.feature);
    if (alert) return isLoud(alert) ? 'fire' : 'small';
    const status = entities.get(one.entity)?.[1];
    return status && status !== 'scored' ? status : 'ok';
  };
  const order = [...groups.keys()].sort((a, b) => {
    const rank = (key: string): number => ([...hot.keys()].some((one) => one.startsWith(key)) ? 0 : 1) + (labelsOf(key)['service.name'] ? 0 : 0.5);
    return rank(a) - rank(b) || a.localeCompare(b);
  });
  return (
    <section className="panel picker" aria-label="Series">
      <header>
        <input
          className="in"
          type="search"
          placeholder={loading ? 'Loading …' : `Find among ${count(list.length, 'series', 'series')}`}
          aria-label="Find a series"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      </header>
      <div className="pick">
        {order.slice(0, MOST_ENTITIES).map((entity) => (
          <div key={entity}>
            <h3 title={entity}>{entityName(labelsOf(entity))}</h3>
            {groups.get(entity)!.map((one) => (
              <button key={one.feature} type="button" aria-pressed={one === chosen} title={one.feature} onClick={() => go(explorePath(one.entity, one.feature))}>
                <Mark name={markFor(one)} />
                {featureName(one.feature)}
              </button>
            ))}
          </div>
        ))}
        {order.length > MOST_ENTITIES && <p className="sub">{order.length - MOST_ENTITIES} more entities: type a part of their name.</p>}
        {!order.length && !loading && <p className="soft pad">Nothing is called so.</p>}
      </div>
    </section>
  );
}

const RANGES: [string, string][] = [['300', '5 min'], ['900', '15 min'], ['3600', '1 h'], ['', 'all']];

function One({ series }: { series: SeriesState }): JSX.Element {
  const chart = useChart(series.entity, series.feature);
  const [zoom, setZoom] = useState<[number, number] | null>(null);
  const [span, setSpan] = useState('');
  const [clipped, setClipped] = useState(true);
  const [index, setIndex] = useState<number | null>(null);
  const history = useHistory({ entity: series.entity });
  const alerts = (history.data?.pages[0]?.alerts ?? []).filter((one) => one.labels['feature'] === series.feature);
  const deploys = useControls('deploy');
  const data = chart.data;
  if (!data)
    return chart.isError ? (
      <Panel title={featureName(series.feature)}>
        <Failed what="This series" error={chart.error} still="Others can be chosen." again={() => void chart.refetch()} />
      </Panel>
    ) : (
      <Panel title={featureName(series.feature)}>
        <Loading>
          <SkeletonRows rows={8} />
        </Loading>
      </Panel>
    );
  const newest = data.points.time_unix_seconds.at(-1) ?? 0;
  const range: [number, number] | null = zoom ?? (span ? [newest - Number(span), newest] : null);
  const [time, value, expected] = reading(data.points, index, data.unit, data.feature);
  const anomalous = alerts.map((one): [number, number] => [
    Date.parse(one.startsAt) / 1000,
    one.status === 'firing' ? newest : Date.parse(one.endsAt) / 1000,
  ]);
  const has = new Set(stretches(data.points).map((one) => one.kind));
  const marks = (deploys.data ?? []).map((one) => ({ at: one.effective_unix_nano / 1e9, text: one.comment || 'deploy' }));
  return (
    <>
      <section className="panel">
        <header>
          <h2>
            {entityName(labelsOf(series.entity))}, {featureName(series.feature)}
          </h2>
          <code className="mute hide-phone">{series.feature}</code>
          <div className="r">
            {zoom && (
              <button className="btn ghost" type="button" onClick={() => setZoom(null)}>
                Reset zoom
              </button>
            )}
            <Seg label="Range" value={zoom ? 'zoom' : span} choices={RANGES} onChoose={(next) => { setZoom(null); setSpan(next); }} />
          </div>
        </header>
        <div className="read">
          <span>{time}</span>
          <span>
            observed <b>{value}</b>
          </span>
          <span>
            expected <b>{expected}</b>
          </span>
          <span className="end scale-choice">
            Scale <Seg label="Scale" value={clipped ? 'expected' : 'everything'} choices={[['expected', 'expected'], ['everything', 'everything']]} onChoose={(next) => setClipped(next === 'expected')} />
          </span>
        </div>
        <div className="read hide-phone">
          <span className="key">
            <span><KeySwatch kind="band" />expected</span>
            {has.has('missing') && <span><KeySwatch kind="missing" />missing</span>}
            {has.has('warming_up') && <span><KeySwatch kind="warming_up" />warming up</span>}
            {has.has('excluded') && <span><KeySwatch kind="excluded" />not judged</span>}
          </span>
        </div>
        <div className="chart-body">
          <BandChart
            points={data.points}
            unit={data.unit}
            feature={data.feature}
            height={320}
            anomalous={anomalous}
            marks={marks}
            group="explore"
            clipped={clipped}
            range={range}
            onRange={setZoom}
            onCursor={setIndex}
            label={`${featureName(data.feature)} with its expected band, now ${value}. Arrow keys move the cursor, plus and minus zoom.`}
          />
        </div>
        <p className="sub">Drag to zoom, double-click to go back. With the keyboard: arrows move the cursor, + and − zoom.</p>
      </section>
      <Detectors chart={data} range={range} index={index} onRange={setZoom} onCursor={setIndex} />
      <section className="panel">
        <header>
          <h2>Notes on this series</h2>
        </header>
        {alerts.length ? (
          <table className="tbl cards">
            <tbody>
              {alerts.slice(0, 8).map((one) => (
                <tr key={one.foreshock.episode}>
                  <td>
                    <span className="st">
                      <Mark name={one.status === 'firing' ? 'fire' : 'good'} />
                      <b>Alert</b>
                    </span>
                  </td>
                  <td data-l="What">
                    <a href={alertPath(one.foreshock.episode)}>{one.annotations['summary']}</a>
                  </td>
                  <td className="nw" data-l="When">
                    <Time at={Date.parse(one.startsAt)} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        ) : (
          <p className="body soft">No alert has named this series.</p>
        )}
      </section>
    </>
  );
}

/** Each detector’s score as a share of its bar, on the same time axis. */
function Detectors(props: { chart: Chart; range: [number, number] | null; index: number | null; onRange: (r: [number, number] | null) => void; onCursor: (i: number | null) => void }): JSX.Element {
  const { chart, index } = props;
  return (
    <section className="panel">
      <header>
        <h2>Each detector</h2>
        <span className="mute">score as a share of its bar; the dashed line is the bar</span>
      </header>
      {chart.detectors.map((one) => {
        const i = index ?? one.ratio.length - 1;
        const v = one.ratio[i] ?? null;
        return (
          <div className="det" key={one.detector}>
            <span>
              {detectorName(one.detector)}
              <small>{one.whole ? 'judges the whole entity' : 'judges this series'}</small>
            </span>
            <span className="num">{v === null ? <span className="mute">not judged</span> : <span className={v >= 1 ? 'fire' : ''}>{num(v)} ×</span>}</span>
            <Score ratio={one.ratio} {...props} />
          </div>
        );
      })}
    </section>
  );
}

/** A share of a bar has no unit, and is never expected to be anything. */
export function scorePoints(points: ChartPoints, ratio: (number | null)[]): ChartPoints {
  const value = ratio.map((v) => (v === null ? null : Math.min(v, 2.4)));
  const nothing = value.map(() => null);
  const status = points.status.map((one, i) => (one === 'scored' && value[i] == null ? 'warming_up' : one));
  return { ...points, status, value, least: value, most: value, expected: nothing, low: nothing, high: nothing };
}

function Score({ chart, ratio, range, onRange, onCursor }: { chart: Chart; ratio: (number | null)[]; range: [number, number] | null; onRange: (r: [number, number] | null) => void; onCursor: (i: number | null) => void }): JSX.Element {
  const points = useMemo(() => scorePoints(chart.points, ratio), [chart.points, ratio]);
  const over = useMemo(() => {
    const out: [number, number][] = [];
    points.value.forEach((v, i) => {
      if ((v ?? 0) < 1) return;
      const t = points.time_unix_seconds[i]!;
      const last = out.at(-1);
      if (last && i > 0 && (points.value[i - 1] ?? 0) >= 1) last[1] = t;
      else out.push([t, t]);
    });
    return out;
  }, [points]);
  return (
    <BandChart points={points} unit="" feature="" height={44} thin axis={false} top={2.4} anomalous={over} limit={{ at: 1, text: '' }} group="explore" range={range} onRange={onRange} onCursor={onCursor} label="Score as a share of its bar" />
  );
}
