import { useState, type JSX } from 'react';

import { count } from '../format';
import { AlertRow, Failed, Loading, Seg, SkeletonRows } from '../parts';
import { isReal, useHistory } from '../queries';

const KINDS: [string, string][] = [['', 'Everything'], ['anomaly', 'Anomalies'], ['threshold', 'Your limits'], ['silence', 'Silence'], ['change', 'Slow changes']];

/** All alerts, the latest first: filtered, searched, page by page. */
export function AlertsPage({ query }: { query: URLSearchParams }): JSX.Element {
  const [status, setStatus] = useState(query.get('status') ?? '');
  const [kind, setKind] = useState('');
  const [text, setText] = useState('');
  const filter = { ...(status ? { status } : {}), ...(kind ? { kind } : {}), ...(text.trim() ? { text: text.trim() } : {}) };
  const found = useHistory(filter);
  const list = (found.data?.pages ?? []).flatMap((page) => page.alerts).filter(isReal);
  return (
    <>
      <div className="title">
        <h1>Alerts</h1>
        <p>Everything that was found, announced or not. Filled marks were announced.</p>
      </div>
      <section className="panel">
        <header className="filters">
          <Seg label="State" value={status} choices={[['', 'All'], ['firing', 'Open'], ['resolved', 'Resolved']]} onChoose={setStatus} />
          <select className="in" aria-label="Kind" value={kind} onChange={(event) => setKind(event.target.value)}>
            {KINDS.map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
          <input className="in" type="search" placeholder="Find in alerts" aria-label="Find in alerts" value={text} onChange={(event) => setText(event.target.value)} />
        </header>
        {found.isError && !found.data ? (
          <Failed what="The alerts" error={found.error} still="They are still recorded and notified." again={() => void found.refetch()} />
        ) : found.isPending ? (
          <Loading>
            <SkeletonRows rows={6} />
          </Loading>
        ) : list.length ? (
          <>
            {list.map((one) => (
              <AlertRow key={one.foreshock.episode} alert={one} sparks={false} />
            ))}
            <div className="sub row">
              <span>{count(list.length, 'alert')} shown</span>
              {found.hasNextPage && (
                <button className="btn" type="button" disabled={found.isFetchingNextPage} onClick={() => void found.fetchNextPage()}>
                  Older ones
                </button>
              )}
            </div>
          </>
        ) : (
          <p className="body soft">{status || kind || text ? 'Nothing matches.' : 'Nothing was found so far.'}</p>
        )}
      </section>
    </>
  );
}
