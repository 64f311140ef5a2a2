import type { JSX } from 'react';

import { count } from '../../format';
import { MapPath, MapView } from '../../map';
import { Mark } from '../../marks';
import { AlertRow, announced, Failed } from '../../parts';
import { inOrder } from '../../state';
import type { AlertState, ServiceMap } from '../../types';

export function MapPanel({ map, open }: { map: ServiceMap; open: AlertState[] }): JSX.Element {
  const firing = inOrder(open).loud.length > 0;
  return (
    <section className="panel map live">
      <header>
        <h2>Service map</h2>
        <span className="mute">
          {firing ? 'Calls go down, the fault climbs up' : `${count(map.nodes.length, 'service')}, ${count(map.edges.length, 'kind of call', 'kinds of call')}`}
        </span>
        <div className="r">
          <span className="key">
            {firing && (
              <span>
                <Mark name="fire" />
                anomalous
              </span>
            )}
            <span>
              <Mark name="warming_up" />
              warming up
            </span>
          </span>
        </div>
      </header>
      <div className="body map-body">
        <MapView map={map} open={open} />
      </div>
      <MapPath map={map} open={open} />
    </section>
  );
}

const MOST_SHOWN = 6;

export function OpenPanel({ alerts, failed, again }: { alerts: AlertState[]; failed: unknown; again: () => void }): JSX.Element {
  const { loud, small } = inOrder(alerts);
  return (
    <section className="panel live" aria-label="Open alerts">
      <header>
        <h2>Open</h2>
        {!failed && (
          <span className="mute">
            {count(loud.length, 'alert')}, {loud.filter(announced).length} announced
          </span>
        )}
        <div className="r">
          <a href="#/alerts">All alerts</a>
        </div>
      </header>
      {failed ? (
        <Failed what="The alerts" error={failed} still="They are still recorded and notified." again={again} />
      ) : (
        <>
          {loud.slice(0, MOST_SHOWN).map((one) => (
            <AlertRow key={one.foreshock.episode} alert={one} />
          ))}
          {loud.length > MOST_SHOWN && (
            <a className="sub more" href="#/alerts?status=firing">
              {loud.length - MOST_SHOWN} more
            </a>
          )}
          {small.length > 0 && <div className="sub">Visible, not announced</div>}
          {small.slice(0, loud.length > 3 ? 2 : 3).map((one) => (
            <AlertRow key={one.foreshock.episode} alert={one} />
          ))}
        </>
      )}
    </section>
  );
}
