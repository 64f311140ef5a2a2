import { useEffect, useState, type JSX } from 'react';

import { detectorName, featureName, moment, NB, num, times } from '../format';
import { Loading, Sk } from '../parts';
import { useFindings } from '../queries';
import type { Range } from '../range';
import type { Chart, Finding } from '../types';

const SETTLE_MS = 150;

/** The last value that has stood for a moment: what follows a pointer does not ask at every step. */
export function useSettled<T>(value: T, ms = SETTLE_MS): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}

/** The time that a point stands for, if a detector found something there. */
export function found(chart: Chart, index: number | null): Range | null {
  const t = index === null ? undefined : chart.points.time_unix_seconds[index];
  if (index === null || t === undefined) return null;
  const hot = chart.points.anomalous[index] || chart.detectors.some((one) => (one.ratio[index] ?? 0) >= 1);
  if (!hot) return null;
  const part = chart.parts.findLast((one) => one.from_unix_seconds <= t + 1e-6);
  const width = Math.max(chart.bucket_seconds, part?.kept_seconds ?? 0);
  return [t - 1e-3, t + (width || 2e-3) - 1e-3];
}

/** The strongest finding of each detector. */
export function strongest(findings: Finding[]): Finding[] {
  const out = new Map<string, Finding>();
  for (const one of findings) {
    const before = out.get(one.detector);
    if (!before || (one.ratio ?? 0) > (before.ratio ?? 0)) out.set(one.detector, one);
  }
  return [...out.values()].sort((a, b) => (b.ratio ?? 0) - (a.ratio ?? 0));
}

/** What made the entity stand out at the cursor, by each detector that found something. */
export function AtCursor({ chart, index }: { chart: Chart; index: number | null }): JSX.Element {
  const stretch = useSettled(JSON.stringify(found(chart, index)));
  const asked = JSON.parse(stretch) as Range | null;
  const findings = useFindings(chart.entity, asked);
  const best = strongest(findings.data ?? []);
  return (
    <section className="panel">
      <header>
        <h2>What stood out</h2>
        <span className="mute">{asked ? `at ${moment((asked[0] + 1e-3) * 1000)}, share of the score` : 'at the cursor'}</span>
      </header>
      <div className="body at-cursor" aria-live="polite">
        {!asked ? (
          <p className="soft">Nothing was found at this time. Move the cursor to where a detector is over its bar.</p>
        ) : findings.isPending ? (
          <Loading>
            <Sk w="60%" />
          </Loading>
        ) : findings.isError ? (
          <p className="soft">What was found could not be loaded: {findings.error.message}</p>
        ) : best.length ? (
          best.map((one) => <Found key={one.detector} finding={one} />)
        ) : (
          <p className="soft">What was found then is no longer kept.</p>
        )}
      </div>
    </section>
  );
}

function Found({ finding }: { finding: Finding }): JSX.Element {
  const shares = finding.contributions;
  const most = Math.max(0.01, ...shares.map((one) => one.share));
  return (
    <div>
      <p>
        <b>{detectorName(finding.detector)}</b> <span className="fire num">{times(finding.ratio)}</span>{' '}
        <span className="mute">{finding.feature ? featureName(finding.feature) : 'the entity as a whole'}</span>
      </p>
      {shares.length ? (
        <ul className="bars over">
          {shares.map((one, i) => (
            <li key={one.feature} className={i === 0 ? 'top' : ''}>
              <span>{featureName(one.feature)}</span>
              <span className="bar">
                <i style={{ width: `${(one.share / most) * 100}%` }} />
              </span>
              <span className="num">
                {num(one.share * 100)}
                {NB}%
              </span>
            </li>
          ))}
        </ul>
      ) : (
        <p className="soft">{finding.normal}</p>
      )}
    </div>
  );
}
