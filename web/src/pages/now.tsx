import type { JSX } from 'react';

import { useLive } from '../live';
import { Mark } from '../marks';
import { Failed, Loading, Panel, SkeletonRows } from '../parts';
import { useBudget, useControls, useMap, useOpen, useStrip } from '../queries';
import { inOrder, pageState } from '../state';
import { StripPanel } from '../strip';
import type { AlertState, ControlRecord } from '../types';
import { BudgetPanel, WatchPanel } from './now/figures';
import { MapPanel, OpenPanel } from './now/open';
import { Sentence } from './now/sentence';
import { Empty, Skeleton } from './now/states';
import { WouldPanel } from './now/would';

// The same empty ones each time: what is drawn of them is not drawn anew.
const NO_ALERTS: AlertState[] = [];
const NO_DEPLOYS: ControlRecord[] = [];

export function Now(): JSX.Element {
  const open = useOpen();
  const map = useMap();
  const strip = useStrip();
  const budget = useBudget();
  const deploys = useControls('deploy');
  const known = useLive((live) => pageState(live, open.data));
  const lost = useLive((live) => live.link === 'lost');
  const state = open.isError && !open.data ? 'quiet' : known;
  if (state === 'loading') return <Skeleton />;
  if (state === 'empty') return <Empty />;
  // What was known when the connection was lost stays, in grey.
  const failed = open.isError && (!open.data || !lost);
  const alerts = open.data ?? NO_ALERTS;
  const end = lost ? 'last known' : 'now';
  const calls = map.data && map.data.edges.length > 0 ? map.data : null;
  const firing = inOrder(alerts).loud.length > 0;
  return (
    <>
      {open.isError && !open.data ? (
        <div className="say">
          <h1>
            <Mark name="no" tint="fire" />
            Whether anything is wrong is not known. <span className="thin">The alerts could not be loaded; the rest goes on.</span>
          </h1>
        </div>
      ) : (
        <Sentence state={state} alerts={alerts} budget={budget.data} />
      )}
      <div className="grid even">
        {calls ? (
          <>
            <div className="c7">
              <MapPanel map={calls} open={alerts} />
            </div>
            <div className="c5">{firing || failed ? <OpenPanel alerts={alerts} failed={failed ? open.error : null} again={() => void open.refetch()} /> : <WouldPanel alerts={alerts} />}</div>
          </>
        ) : firing || failed ? (
          <div className="c12">
            <OpenPanel alerts={alerts} failed={failed ? open.error : null} again={() => void open.refetch()} />
          </div>
        ) : (
          <div className="c12">
            <WouldPanel alerts={alerts} />
          </div>
        )}
      </div>
      {strip.data ? (
        <StripPanel strip={strip.data} open={alerts} deploys={deploys.data ?? NO_DEPLOYS} end={end} />
      ) : strip.isError ? (
        <Panel title="Every entity">
          <Failed what="The strip" error={strip.error} still="Alerts are shown as before." again={() => void strip.refetch()} />
        </Panel>
      ) : (
        <Panel title="Every entity">
          <Loading>
            <SkeletonRows rows={8} />
          </Loading>
        </Panel>
      )}
      <div className="grid even">
        <div className="c6">
          <BudgetPanel budget={budget.data} />
        </div>
        <div className="c6">
          <WatchPanel />
        </div>
      </div>
    </>
  );
}
