import type { JSX } from 'react';

import { alertEntity, detectorName, featureName, NB, num, times } from '../../format';
import { Mark } from '../../marks';
import { anomalousPart, Panel, Time } from '../../parts';
import type { AlertState, Chart } from '../../types';

/** "latency=99 %, requests=1 %" → the features and their share. */
export function contributions(text: string | undefined): { feature: string; share: number }[] {
  if (!text) return [];
  return [...text.matchAll(/(.+?)=([\d.]+)[\s\u00a0\u202f]*%(?:, |$)/g)].map((m) => ({ feature: m[1]!, share: Number(m[2]) }));
}

export function Contributions({ alert }: { alert: AlertState }): JSX.Element {
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

export function Opinions({ chart, alert }: { chart: Chart; alert: AlertState }): JSX.Element {
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
                  <td className="num">{ratio === null ? '–' : <b>{times(ratio)}</b>}</td>
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
