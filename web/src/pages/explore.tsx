import { useEffect, useMemo, useState, type JSX } from 'react';

import { BandChart, reading, stretches } from '../chart';
import { count, detectorName, duration, entityName, featureName, labelsOf, moment, quantity, span, times } from '../format';
import { useLive } from '../live';
import { KeySwatch, Failed, Loading, loudOf, Panel, Seg, SkeletonRows, Time, useWidth } from '../parts';
import { Mark, type MarkName } from '../marks';
import { useChart, useControls, useHistory, useOpen, useSeriesList, useStretch } from '../queries';
import { anomalies, CLOSEST, lastShown, madeOf, moved, PRESETS, tile, within, withGaps, withTail, type Range } from '../range';
import { explorePath, go, note } from '../router';
import type { Chart, ChartPoints, SeriesState } from '../types';
import { AtCursor, useSettled } from './explore-cursor';
import { Notes, notesOf, speaksOf } from './explore-notes';

export function Explore({ query }: { query: URLSearchParams }): JSX.Element {
  const all = useSeriesList();
  const entity = query.get('entity') ?? '';
  const feature = query.get('feature') ?? '';
  const list = all.data ?? [];
  const chosen =
    list.find((one) => one.entity === entity && one.feature === feature) ??
    // One that is no longer in view may still be kept.
    (entity && feature && all.data ? { entity, feature, name: feature, attributes: {}, unit: '', kind: 'gauge' as const } : undefined) ??
    list.find((one) => one.entity === entity) ??
    (entity ? undefined : (list.find((one) => 'service.name' in labelsOf(one.entity) && one.feature === 'calls.error_ratio') ?? list[0]));
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
            <One key={chosen.entity + chosen.feature} series={chosen} query={query} />
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

/** What the address asks for, if it does. */
function asked(query: URLSearchParams): Range | null {
  const [from, to] = [Number(query.get('from') || NaN), Number(query.get('to') || NaN)];
  return to > from ? [from, to] : null;
}

/** Points that are asked for are as many as can be told apart: the answer is wider than what is shown. */
const POINTS_A_PIXEL = 2.5;

function One({ series, query }: { series: SeriesState; query: URLSearchParams }): JSX.Element {
  const live = useChart(series.entity, series.feature);
  const { standing } = useLive();
  const [view, setView] = useState<Range | null>(() => asked(query));
  const [length, setLength] = useState(3600);
  const [clipped, setClipped] = useState(true);
  const [index, setIndex] = useState<number | null>(null);
  const [body, width] = useWidth<HTMLDivElement>();
  const newest = live.data?.points.time_unix_seconds.at(-1) ?? (live.isPending ? undefined : (standing?.now_unix_seconds ?? Date.now() / 1000));
  const end = newest ?? 0;
  const range = useMemo<Range>(() => view ?? [end - length, end], [view, end, length]);
  // A wheel turns faster than answers come: what is shown follows at once, what is asked for once it rests.
  const wanted = newest === undefined ? '' : JSON.stringify(tile(range));
  const rest = useSettled(wanted) || wanted;
  const most = width > 700 ? Math.round((width * POINTS_A_PIXEL) / 500) * 500 : 1000;
  const stretch = useStretch(series.entity, series.feature, rest ? (JSON.parse(rest) as Range) : null, most);
  // Where the server does not answer, what is known of the last hour is shown.
  const known = stretch.isError ? live.data : undefined;
  const chart = useMemo(() => (stretch.data ? withGaps(withTail(stretch.data, live.data)) : known && withGaps(known)), [stretch.data, live.data, known]);

  const address = explorePath(series.entity, series.feature, view ?? undefined);
  const settled = useSettled(address, 400);
  useEffect(() => {
    if (location.hash.startsWith('#/explore')) note(settled);
  }, [settled]);

  const title = `${entityName(labelsOf(series.entity))}, ${featureName(series.feature)}`;
  if (!chart)
    return (
      <div className="stack" ref={body}>
        <Panel title={title}>
          {stretch.isError ? (
            <Failed what="This series" error={stretch.error} still="Others can be chosen." again={() => void stretch.refetch()} />
          ) : (
            <Loading>
              <SkeletonRows rows={8} />
            </Loading>
          )}
        </Panel>
      </div>
    );
  const bounds: Range = [Math.min(chart.oldest_unix_seconds ?? end - length, end - CLOSEST), end];
  const show = (next: Range | null): void => setView(next && within(next, bounds));
  const shared = { chart, range, bounds, index, onRange: show, onCursor: setIndex };
  return (
    <div className="stack" ref={body}>
      <section className="panel">
        <header>
          <h2>{title}</h2>
          <code className="mute hide-phone">{series.feature}</code>
          <div className="r">
            {view && (
              <button className="btn ghost" type="button" onClick={() => setView(null)}>
                Reset zoom
              </button>
            )}
            <Seg label="Range" value={view ? '' : String(length)} choices={PRESETS} onChoose={(next) => { setView(null); setLength(Number(next)); }} />
          </div>
        </header>
        <Reading {...shared} clipped={clipped} onClipped={setClipped} loading={stretch.isPlaceholderData} />
        <div className="chart-body">
          <Main {...shared} clipped={clipped} series={series} />
        </div>
        <Moving range={range} bounds={bounds} onRange={show} says={saysOf(chart, range)} />
      </section>
      <Detectors {...shared} />
      <AtCursor chart={chart} index={index ?? lastShown(chart.points.time_unix_seconds, range)} />
      <Beside series={series} range={range} onShow={show} />
    </div>
  );
}

/** Of what the picture is made, and since when anything is known. */
function saysOf(chart: Chart, range: Range): string {
  const oldest = chart.oldest_unix_seconds;
  const since = oldest != null && oldest > range[0] + 60 ? ` Nothing is kept from before ${moment(oldest * 1000, false)}.` : '';
  return madeOf(chart, duration) + since;
}

interface Shared {
  chart: Chart;
  range: Range;
  bounds: Range;
  index: number | null;
  onRange: (range: Range | null) => void;
  onCursor: (index: number | null) => void;
}

function Reading({ chart, range, index, clipped, onClipped, loading }: Shared & { clipped: boolean; onClipped: (on: boolean) => void; loading: boolean }): JSX.Element {
  const i = index ?? lastShown(chart.points.time_unix_seconds, range);
  const [time, value, expected] = i === null ? ['–', 'nothing here', 'not known'] : reading(chart.points, i, chart.unit, chart.feature);
  const [least, most] = i === null ? [null, null] : [chart.points.least[i] ?? null, chart.points.most[i] ?? null];
  const reach = least !== null && most !== null && most > least ? span(least, most, chart.unit, chart.feature) : '';
  const has = new Set(stretches(chart.points).filter((one) => one.from <= range[1] && one.to >= range[0]).map((one) => one.kind));
  return (
    <>
      <div className="read">
        <span>{time}</span>
        <span>
          observed <b>{value}</b>
          {reach && <span className="mute hide-phone">, {reach}</span>}
        </span>
        <span>
          expected <b>{expected}</b>
        </span>
        <span className="mute" role="status">{loading ? 'Loading …' : ''}</span>
        <span className="end scale-choice">
          Scale <Seg label="Scale" value={clipped ? 'expected' : 'everything'} choices={[['expected', 'expected'], ['everything', 'everything']]} onChoose={(next) => onClipped(next === 'expected')} />
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
    </>
  );
}

function Main({ chart, range, bounds, clipped, series, onRange, onCursor }: Shared & { clipped: boolean; series: SeriesState }): JSX.Element {
  const { points, unit, feature } = chart;
  const deploys = useControls('deploy');
  const labels = labelsOf(series.entity);
  const marks = (deploys.data ?? []).filter((one) => speaksOf(one, labels)).map((one) => ({ at: one.effective_unix_nano / 1e9, text: one.comment || 'deploy' }));
  const hot = useMemo(() => anomalies(points, chart.bucket_seconds), [points, chart.bucket_seconds]);
  const last = lastShown(points.time_unix_seconds, range);
  const now = last === null ? 'nothing here' : quantity(points.value[last], unit, feature);
  return (
    <BandChart
      points={points} unit={unit} feature={feature} height={320} anomalous={hot} marks={marks} group="explore" clipped={clipped}
      range={range} bounds={bounds} onRange={onRange} onCursor={onCursor}
      label={`${featureName(feature)} with its expected band, at the end ${now}. Arrow keys move the cursor, with Shift the range; plus and minus zoom.`}
    />
  );
}

/** Back and forth for those who have neither wheel nor touch, and how it is done otherwise. */
function Moving({ range, bounds, onRange, says }: { range: Range; bounds: Range; onRange: (range: Range) => void; says: string }): JSX.Element {
  const day = range[1] - range[0] > 72_000;
  return (
    <div className="sub moving">
      <button className="btn ghost" type="button" aria-label="Earlier" disabled={range[0] <= bounds[0] + 1} onClick={() => onRange(moved(range, -0.5))}>
        ←
      </button>
      <span>
        <Time at={range[0] * 1000} seconds={!day} /> to <Time at={range[1] * 1000} seconds={!day} />
      </span>
      <button className="btn ghost" type="button" aria-label="Later" disabled={range[1] >= bounds[1] - 1} onClick={() => onRange(moved(range, 0.5))}>
        →
      </button>
      <span className="says">{says}</span>
      <span className="hide-phone how">Drag or turn the wheel to zoom, Shift and drag to move, double-click to go back. Keys: arrows, + and −, with Shift to move.</span>
    </div>
  );
}

/** Alerts of the series and what people told, in the range that is shown. */
function Beside({ series, range, onShow }: { series: SeriesState; range: Range; onShow: (range: Range) => void }): JSX.Element {
  const history = useHistory({ entity: series.entity });
  const controls = useControls();
  const labels = labelsOf(series.entity);
  const alerts = (history.data?.pages ?? []).flatMap((page) => page.alerts).filter((one) => one.labels['feature'] === series.feature);
  return <Notes notes={notesOf(controls.data ?? [], alerts, labels, range)} labels={labels} range={range} onShow={onShow} />;
}

/** Each detector’s score as a share of its bar, on the same time axis. */
function Detectors(props: Shared): JSX.Element {
  const { chart, range } = props;
  const i = props.index ?? lastShown(chart.points.time_unix_seconds, range);
  return (
    <section className="panel">
      <header>
        <h2>Each detector</h2>
        <span className="mute">score as a share of its bar; the dashed line is the bar</span>
      </header>
      {chart.detectors.map((one) => {
        const v = i === null ? null : (one.ratio[i] ?? null);
        return (
          <div className="det" key={one.detector}>
            <span>
              {detectorName(one.detector)}
              <small>{one.whole ? 'judges the whole entity' : 'judges this series'}</small>
            </span>
            <span className="num">{v === null ? <span className="mute">not judged</span> : <span className={v >= 1 ? 'fire' : ''}>{times(v)}</span>}</span>
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

function Score({ chart, ratio, range, bounds, onRange, onCursor }: Shared & { ratio: (number | null)[] }): JSX.Element {
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
    <BandChart points={points} unit="" feature="" height={44} thin axis={false} top={2.4} anomalous={over} limit={{ at: 1, text: '' }} group="explore" range={range} bounds={bounds} onRange={onRange} onCursor={onCursor} label="Score as a share of its bar" />
  );
}
