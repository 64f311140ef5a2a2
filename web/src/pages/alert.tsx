import { useState, type JSX, type ReactNode } from 'react';

import { ApiError } from '../api';
import { alertEntity, duration, featureName, quantity, said } from '../format';
import { useLive } from '../live';
import { Icon, Mark } from '../marks';
import { announced, endOf, Failed, figures, Loading, loudOf, newest, Panel, SkeletonRows, startOf, Time } from '../parts';
import { useAlert, useOpen } from '../queries';
import { explorePath } from '../router';
import type { AlertState, Chart } from '../types';
import { useAround } from './alert/around';
import { Before, Feedback, Timeline } from './alert/beside';
import { Observed, Others } from './alert/observed';
import { Contributions, Opinions } from './alert/why';
import { InWords } from './alert/words';

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
  const own = useAround(alert, entity, feature);
  return (
    <>
      <div className="title">
        <p className="crumb">
          <a href="#/now">Now</a>
          <span>/</span>
          <a href="#/alerts">Alerts</a>
        </p>
        <Head alert={alert} chart={own.data} />
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
          <InWords alert={alert} />
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

function Head({ alert, chart }: { alert: AlertState; chart: Chart | undefined }): JSX.Element {
  const { observed, expected } = figures(alert);
  const who = alertEntity(alert.labels);
  const what = featureName(alert.labels['feature']);
  const open = useOpen();
  const start = startOf(alert);
  const end = endOf(alert);
  const firing = end === null;
  const link = useLive((live) => live.link);
  const lostAt = useLive((live) => live.lostAt);
  const past = !firing || link === 'lost';
  const headline = ((): ReactNode => {
    if (alert.foreshock.kind === 'silence') return <>{who} {past ? 'sent nothing.' : 'sends nothing.'}</>;
    if (alert.foreshock.kind === 'change') return <>{who}’s {what} {past ? 'took' : 'takes'} a course <span className="thin">that it has not taken before.</span></>;
    if (!observed) return <>{who} {past ? 'was' : 'is'} unusual as a whole.</>;
    const peak = alert.annotations['peak_observed'];
    const [unit, feature] = [alert.annotations['unit'] ?? '', alert.labels['feature'] ?? ''];
    const current = firing ? newest(chart?.points) : null;
    if (current !== null) return <>{said(alert.labels, quantity(current, unit, feature), past)}, <span className="thin">expected {expected}.</span></>;
    const value = !firing && peak !== undefined ? quantity(Number(peak), unit, feature) : observed;
    const far = firing ? '' : alert.annotations['direction'] === 'below' ? 'down' : 'up';
    return <>{said(alert.labels, value, past, far)}, <span className="thin">expected {expected}.</span></>;
  })();
  const decided = Date.parse(alert.foreshock.decidedAt);
  return (
    <div className="say">
      <div>
        <h1>
          <Mark name={firing ? 'fire' : 'good'} label={firing ? 'Firing' : 'Resolved'} {...(firing && past ? { tint: 'soft' } : {})} />
          {firing && past && (
            <span className="thin">
              At <Time at={lostAt} seconds={false} />{' '}
            </span>
          )}
          {headline}
        </h1>
        <div className="meta">
          <span className={`tag ${firing ? (past ? '' : 'fire') : 'good'}`}>
            <Mark name={firing ? 'fire' : 'good'} />
            {firing ? (past ? 'was firing' : 'firing') : 'resolved'}
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
  const standing = useLive((live) => live.standing);
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
