import { useEffect, useRef, useState, type JSX, type ReactNode } from 'react';

import { ApiError, setToken } from './api';
import { BreakPanel } from './break';
import { clock, duration, NB } from './format';
import { live, useLive, type Live } from './live';
import { Icon, Logo, Mark } from './marks';
import { announced, Time } from './parts';
import { AlertPage } from './pages/alert';
import { AlertsPage } from './pages/alerts';
import { Detectors } from './pages/detectors';
import { Explore } from './pages/explore';
import { Now } from './pages/now';
import { Settings } from './pages/settings';
import { Sources } from './pages/sources';
import { useLiveCache, useOpen } from './queries';
import { useRoute, type Route } from './router';
import { pageState, STALE_SECONDS } from './state';
import { choose, useTheme } from './theme';

const PAGES = [
  ['now', 'Now'],
  ['alerts', 'Alerts'],
  ['explore', 'Explore'],
  ['detectors', 'Detectors'],
  ['sources', 'Sources'],
] as const;

export function App(): JSX.Element {
  useLiveCache();
  const route = useRoute();
  const state = useLive();
  const open = useOpen();
  const theme = useTheme();
  const [breaking, setBreaking] = useState(false);
  const firing = (open.data ?? []).filter(announced).length;
  const demo = state.standing?.demo ?? false;
  const page = PAGES.some(([key]) => key === route.page) ? route.page : route.page === 'alert' ? 'alerts' : route.page === 'settings' ? 'settings' : 'now';
  useTitle(page, firing);
  useTop(route);
  if (open.error instanceof ApiError && open.error.status === 401) return <Door />;
  const how = pageState(state, open.data);
  const nav = (phone: boolean): JSX.Element[] => [
    ...PAGES.map(([key, name]) => (
      <a key={key} href={`#/${key}`} aria-current={page === key ? 'page' : undefined}>
        <Icon name={key} />
        <span>{name}</span>
        {key === 'alerts' && firing > 0 && (
          <span className="n fire">
            <Mark name="fire" label={`${firing} open`} />
            {!phone && <em>{firing}</em>}
          </span>
        )}
      </a>
    )),
  ];
  const swap = (): void => choose(theme === 'dark' ? 'light' : 'dark');
  const environment = state.standing ? state.standing.environment + (demo ? ', demo' : '') : '';
  return (
    <div className="frame">
      <a
        className="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById('main')?.focus();
        }}
      >
        Skip to the page
      </a>
      <aside className="side">
        <a className="brand" href="#/now">
          <Logo />
          Foreshock
        </a>
        <div className="env">{environment}</div>
        <nav className="nav" aria-label="Pages">
          {nav(false)}
        </nav>
        <div className="foot">
          {demo && (
            <button className="btn demo" type="button" onClick={() => setBreaking(true)}>
              <Icon name="brk" />
              Break something
            </button>
          )}
          <LinkState state={state} />
          <div className="tools">
            <button className="btn ghost" type="button" onClick={swap}>
              <Icon name="theme" />
              {theme === 'dark' ? 'Light' : 'Dark'}
            </button>
            <a className="btn ghost" href="#/settings" aria-current={page === 'settings' ? 'page' : undefined}>
              <Icon name="settings" />
              Settings
            </a>
          </div>
        </div>
      </aside>
      <div className="top-phone">
        <a className="brand" href="#/now">
          <Logo />
          <span className="vh">Foreshock</span>
        </a>
        <LinkState state={state} short />
        {demo && (
          <button className="btn ghost icon" type="button" aria-label="Break something" onClick={() => setBreaking(true)}>
            <Icon name="brk" />
          </button>
        )}
        <button className="btn ghost icon" type="button" aria-label="Switch theme" onClick={swap}>
          <Icon name="theme" />
        </button>
        <a className="btn ghost icon" href="#/settings" aria-label="Settings">
          <Icon name="settings" />
        </a>
      </div>
      <main id="main" className={`main ${how === 'disconnected' ? 'off' : how === 'stale' ? 'old' : ''}`} tabIndex={-1}>
        <div className="page">
          <Banner state={state} />
          {content(page, route)}
        </div>
      </main>
      <nav className="tabs-phone" aria-label="Pages">
        {nav(true)}
      </nav>
      {breaking && <BreakPanel onClose={() => setBreaking(false)} />}
    </div>
  );
}

function content(page: string, route: Route): ReactNode {
  switch (page) {
    case 'alerts':
      return route.page === 'alert' ? <AlertPage episode={route.id} /> : <AlertsPage query={route.query} />;
    case 'explore':
      return <Explore query={route.query} />;
    case 'detectors':
      return <Detectors />;
    case 'sources':
      return <Sources />;
    case 'settings':
      return <Settings />;
    default:
      return <Now />;
  }
}

function useTitle(page: string, firing: number): void {
  useEffect(() => {
    const name = PAGES.find(([key]) => key === page)?.[1] ?? 'Settings';
    document.title = `${firing ? '◆ ' : ''}${name} · Foreshock`;
  }, [page, firing]);
}

/** A new page begins at its top, and is read from there. */
function useTop(route: Route): void {
  const first = useRef(true);
  useEffect(() => {
    if (first.current) {
      first.current = false;
      return;
    }
    scrollTo(0, 0);
    document.getElementById('main')?.focus({ preventScroll: true });
  }, [route.page, route.id]);
}

function LinkState({ state, short = false }: { state: Live; short?: boolean }): JSX.Element {
  const { link, standing, lostAt } = state;
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

function Banner({ state }: { state: Live }): JSX.Element | null {
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

/** The server wants to know who asks. */
function Door(): JSX.Element {
  const [given, setGiven] = useState('');
  return (
    <main id="main" className="main door">
      <form
        className="panel"
        onSubmit={(event) => {
          event.preventDefault();
          setToken(given.trim());
          location.reload();
        }}
      >
        <header>
          <h1>Foreshock wants a token</h1>
        </header>
        <div className="body form">
          <p className="soft">It is one of those in http.tokens of its settings. It is kept until this tab is closed.</p>
          <div className="field">
            <label htmlFor="door">Token</label>
            <input id="door" className="in" type="password" autoComplete="off" value={given} onChange={(event) => setGiven(event.target.value)} />
            <button className="btn main-act" type="submit">
              Enter
            </button>
          </div>
        </div>
      </form>
    </main>
  );
}
