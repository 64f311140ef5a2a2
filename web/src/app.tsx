import { useEffect, useRef, useState, type JSX, type ReactNode } from 'react';

import { ApiError } from './api';
import { Banner, LinkState } from './banner';
import { BreakPanel } from './break';
import { Door } from './door';
import { Later, later, useRest } from './later';
import { useLive } from './live';
import { Icon, Logo, Mark } from './marks';
import { announced } from './parts';
import { AlertsPage } from './pages/alerts';
import { Now } from './pages/now';
import { useLiveCache, useOpen } from './queries';
import { useRoute, type Route } from './router';
import { pageState } from './state';
import { choose, useTheme } from './theme';

const AlertPage = later(() => import('./pages/alert').then((found) => found.AlertPage));
const Explore = later(() => import('./pages/explore').then((found) => found.Explore));
const Detectors = later(() => import('./pages/detectors').then((found) => found.Detectors));
const Sources = later(() => import('./pages/sources').then((found) => found.Sources));
const Settings = later(() => import('./pages/settings').then((found) => found.Settings));

const PAGES = [
  ['now', 'Now'],
  ['alerts', 'Alerts'],
  ['explore', 'Explore'],
  ['detectors', 'Detectors'],
  ['sources', 'Sources'],
] as const;

export function App(): JSX.Element {
  useLiveCache();
  useRest();
  const route = useRoute();
  const open = useOpen();
  const theme = useTheme();
  const [breaking, setBreaking] = useState(false);
  const firing = (open.data ?? []).filter(announced).length;
  const demo = useLive((live) => live.standing?.demo ?? false);
  const own = useLive((live) => live.standing?.environment ?? '');
  const how = useLive((live) => pageState(live, open.data));
  const page = PAGES.some(([key]) => key === route.page) ? route.page : route.page === 'alert' ? 'alerts' : route.page === 'settings' ? 'settings' : 'now';
  useTitle(page, firing);
  useTop(route);
  if (open.error instanceof ApiError && open.error.status === 401) return <Door />;
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
  const environment = own + (demo ? ', demo' : '');
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
          <LinkState />
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
        <span className="where">{environment}</span>
        <LinkState short />
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
          <Banner />
          <Later key={page}>{content(page, route)}</Later>
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
