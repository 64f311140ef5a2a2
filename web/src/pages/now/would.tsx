import { memo, type JSX } from 'react';

import { entityName, featureName, labelsOf, quantity } from '../../format';
import { AlertRow, Failed, Loading, SkeletonRows, Spark } from '../../parts';
import { useChart, useSeriesList } from '../../queries';
import { explorePath } from '../../router';
import { inOrder } from '../../state';
import type { AlertState, SeriesState } from '../../types';

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

export const WouldPanel = memo(function WouldPanel({ alerts }: { alerts: AlertState[] }): JSX.Element {
  const series = useSeriesList();
  const { small } = inOrder(alerts);
  return (
    <section className="panel live">
      <header>
        <h2>What would be noticed</h2>
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
});

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
        <Spark points={points} height={24} />
      </td>
      <td data-l="Noticed when">{said}</td>
    </tr>
  );
}
