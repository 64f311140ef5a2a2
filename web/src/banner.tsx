import { useEffect, useState, type JSX, type ReactNode } from 'react';

import { clock, duration, NB } from './format';
import { live, useLive } from './live';
import { Mark } from './marks';
import { Time } from './parts';
import { STALE_SECONDS } from './state';

/** How the connection stands, in two lines, or one. */
export function LinkState({ short = false }: { short?: boolean }): JSX.Element {
  const { link, standing, lostAt } = useLive();
  const silent = standing?.silent_seconds ?? null;
  const says = ((): [JSX.Element, string, ReactNode] => {
    if (link === 'lost') return [<Mark name="down" tint="risk" />, 'Not connected', `last data ${clock(lostAt)}`];
    if (link === 'connecting' || !standing) return [<Mark name="ring" />, 'Connecting …', ''];
    if (!standing.entities) return [<Mark name="ring" />, 'Connected', 'nothing arrives yet'];
    if (silent !== null && silent > STALE_SECONDS) return [<Mark name="stale" tint="risk" />, `Data is ${duration(silent)} old`, 'the server answers'];
    return [<Mark name="live" tint="soft" />, 'Live', silent === null ? '' : `${Math.max(1, Math.round(silent))}${NB}s behind`];
  })();
  return (
    <div className="link" role="status">
      {says[0]}
      <span>
        <b>{says[1]}</b>
        {!short && (
          <>
            <br />
            {says[2]}
          </>
        )}
      </span>
    </div>
  );
}

/** What is wrong with the whole page: no connection, no data, or something that the server itself says. */
export function Banner(): JSX.Element | null {
  const state = useLive();
  const [, tick] = useState(0);
  useEffect(() => {
    if (state.link !== 'lost') return;
    const timer = setInterval(() => tick((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, [state.link]);
  if (state.link === 'lost') {
    const wait = Math.max(0, Math.round((state.retryAt - Date.now()) / 1000));
    return (
      <div className="banner" role="alert">
        <Mark name="down" />
        <span>
          <b>
            Connection lost at <Time at={state.lostAt} />.
          </b>{' '}
          You see what was known then, in grey.
        </span>
        <span className="r">
          <span className="soft">{wait ? `Trying again in ${wait}${NB}s` : 'Trying again …'}</span>
          <button className="btn" type="button" onClick={() => live.connect()}>
            Try now
          </button>
        </span>
      </div>
    );
  }
  if (state.healed)
    return (
      <div className="banner back" role="status">
        <Mark name="good" />
        <span>
          <b>Connected again.</b> {duration(Math.max(1, state.healed))} were missed and have been filled in.
        </span>
      </div>
    );
  const { standing } = state;
  if (!standing) return null;
  if (standing.entities && (standing.silent_seconds ?? 0) > STALE_SECONDS)
    return (
      <div className="banner" role="status">
        <Mark name="stale" />
        <span>
          <b>All sources are silent for {duration(standing.silent_seconds ?? 0)}.</b> Foreshock itself is connected. What came later is missing, not normal.
        </span>
        <span className="r">
          <a className="btn" href="#/sources">
            See sources
          </a>
        </span>
      </div>
    );
  if (standing.not_ready.length)
    return (
      <div className="banner" role="status">
        <Mark name="stale" />
        <span>
          <b>Not all is in order:</b> {standing.not_ready.join('; ')}.
        </span>
      </div>
    );
  return null;
}
