import { useState, type JSX } from 'react';

import { BandChart, reading, stretches } from '../../chart';
import { alertEntity, featureName, quantity, span } from '../../format';
import { Mark } from '../../marks';
import { anomalousPart, KeySwatch, Panel, SkeletonRows } from '../../parts';
import { useControls, useSeriesList } from '../../queries';
import { explorePath } from '../../router';
import type { AlertState, Chart, SeriesState } from '../../types';
import { useAround } from './around';
import { contributions } from './why';

export function Observed({ chart, alert }: { chart: Chart; alert: AlertState }): JSX.Element {
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

const MOST_OTHERS = 8;

export function Others({ entity, feature, alert }: { entity: string; feature: string; alert: AlertState }): JSX.Element | null {
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
  const chart = useAround(alert, series.entity, series.feature);
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
