import type { JSX } from 'react';

import { Icon, Mark } from '../../marks';
import { Loading, Panel, Sk, SkeletonRows } from '../../parts';
import { useSources } from '../../queries';
import { Table } from '../../table';

export function Skeleton(): JSX.Element {
  return (
    <Loading>
      <div className="page">
        <div className="say">
          <div className="wide">
            <h1 className="vh">Loading</h1>
            <Sk w="62%" h={28} />
          </div>
        </div>
        <div className="grid even">
          <div className="c7 panel">
            <header>
              <Sk w="96px" />
            </header>
            <div className="sk-map">
              {[1, 1, 5, 4, 2].map((n, row) => (
                <div key={row}>
                  {Array.from({ length: n }, (_, i) => (
                    <Sk key={i} w="16%" h={44} />
                  ))}
                </div>
              ))}
            </div>
          </div>
          <div className="c5 panel">
            <header>
              <Sk w="64px" />
            </header>
            <SkeletonRows rows={5} />
          </div>
        </div>
        <div className="panel">
          <header>
            <Sk w="128px" />
          </header>
          <SkeletonRows rows={10} />
        </div>
      </div>
    </Loading>
  );
}

const here = (): string => location.origin;

const WAYS = (): [string, string, string, string][] => [
  ['Follow Prometheus', 'Foreshock reads it and finds out what is worth watching.', 'sources:\n  - prometheus: {url: "http://127.0.0.1:9090"}', 'It reads the last seven days first, so it judges at once.'],
  ['Send calls between services', 'A recorder in the application, or one line of JSON a call.', `curl ${here()}/collect \\\n  -H 'Content-Type: application/json' \\\n  -d '{"source": "checkout", "target": "payment", "status": 200, "duration": 0.012}'`, 'Calls also draw the service map.'],
  ['Just look around', 'A shop of twelve services that really breaks.', 'foreshock demo', 'Needs nothing else. The first fault comes after 20 s.'],
];

export function Empty(): JSX.Element {
  return (
    <>
      <div className="say">
        <div>
          <h1>
            <Mark name="ring" label="Nothing yet" />
            Nothing sends data yet. <span className="thin">Pick one of three ways to start.</span>
          </h1>
          <div className="meta">
            <span>This page changes by itself when the first sample arrives.</span>
          </div>
        </div>
      </div>
      <div className="ways">
        {WAYS().map(([title, says, code, next]) => (
          <section className="panel" key={title}>
            <header>
              <h2>{title}</h2>
            </header>
            <div className="body">
              <p className="soft">{says}</p>
              <pre tabIndex={0}>
                <code>{code}</code>
              </pre>
              <p className="with-copy">
                <button className="btn" type="button" onClick={() => void navigator.clipboard?.writeText(code)}>
                  <Icon name="copy" />
                  Copy
                </button>
                <span className="mute small">{next}</span>
              </p>
            </div>
          </section>
        ))}
      </div>
      <Listening />
    </>
  );
}

/** Where data can be sent, and the sources of the settings that have brought none yet. */
function Listening(): JSX.Element {
  const sources = useSources();
  const own = (sources.data?.sources ?? []).map((one): [string, string, string] => [one.name, one.type, one.problem || one.state]);
  const rows: [string, string, string][] = [
    ['Calls between services', `${here()}/collect`, 'waiting'],
    ['Events and readings, JSON or NDJSON', `${here()}/api/v1/events`, 'waiting'],
    ...own,
  ];
  return (
    <Panel title="Listening" aside="what is sent here is judged">
      <Table
        label="Listening"
        headless
        columns={[
          { name: 'What', cell: ([what]) => what },
          { name: 'Where', cell: ([, where]) => <code>{where}</code> },
          {
            name: 'State', num: true,
            cell: ([, , state]) => (
              <span className="st mute">
                <Mark name="ring" />
                {state}
              </span>
            ),
          },
        ]}
        rows={rows}
        keyOf={([what]) => what}
      />
    </Panel>
  );
}
