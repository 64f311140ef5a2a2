import { useMemo, type JSX } from 'react';

import { featureName, NB, num, quantity } from './format';
import { Mark, shape, type MarkName } from './marks';
import { loudOf, useWidth } from './parts';
import { alertPath, explorePath, go } from './router';
import type { AlertState, MapNode, ServiceMap } from './types';

type Feel = '' | 'f' | 's' | 'w';

interface Placed {
  name: string;
  node: MapNode | null;
  folded: number;
  x: number;
  y: number;
  feel: Feel;
}

export const MOST_WHOLE = 40;

/** The alerts of each service: its own, and the entity text they are about. */
export function alertsByService(open: AlertState[]): Map<string, AlertState> {
  const isLoud = loudOf(open);
  const out = new Map<string, AlertState>();
  for (const alert of open) {
    const name = alert.labels['service_name'];
    if (!name || alert.foreshock.kind === 'change') continue;
    const before = out.get(name);
    if (!before || (isLoud(alert) && !isLoud(before))) out.set(name, alert);
  }
  return out;
}

/** Layers by the longest way from those whom nobody calls; calls go down. */
export function layers(map: ServiceMap): string[][] {
  const names = map.nodes.map((one) => one.name);
  const depth = new Map<string, number>(names.map((one) => [one, 0]));
  // As many rounds as there are services settle every order of calls; a circle ends there too.
  for (let round = 0; round < names.length; round++) {
    let moved = false;
    for (const { client, server } of map.edges) {
      const wanted = (depth.get(client) ?? 0) + 1;
      if (client !== server && wanted > (depth.get(server) ?? 0) && wanted < names.length) {
        depth.set(server, wanted);
        moved = true;
      }
    }
    if (!moved) break;
  }
  const used = [...new Set(depth.values())].sort((a, b) => a - b);
  const out = used.map((d) => names.filter((one) => depth.get(one) === d));
  // Each layer in the order of the middle of those above, so that few lines cross.
  for (let i = 1; i < out.length; i++) {
    const above = new Map(out.slice(0, i).flatMap((layer) => layer.map((one, at) => [one, (at + 0.5) / layer.length] as const)));
    const middle = (one: string): number => {
      const callers = map.edges.filter((e) => e.server === one && above.has(e.client)).map((e) => above.get(e.client)!);
      return callers.length ? callers.reduce((a, b) => a + b, 0) / callers.length : 0.5;
    };
    out[i] = [...out[i]!].sort((a, b) => middle(a) - middle(b) || a.localeCompare(b));
  }
  return out;
}

/** A layer too wide for one row, in rows of about the same length. */
function inRows(layer: string[], most: number): string[][] {
  const size = Math.ceil(layer.length / Math.ceil(layer.length / most));
  return Array.from({ length: Math.ceil(layer.length / size) }, (_, i) => layer.slice(i * size, (i + 1) * size));
}

/** Where there are too many services, the usual ones of a layer fold into one counted node. */
export function fold(all: string[][], keep: Set<string>, most: number, total: number): string[][] {
  if (total <= MOST_WHOLE) return all.flatMap((layer) => inRows(layer, most));
  return all.map((layer) => {
    const kept = layer.filter((one) => keep.has(one)).slice(0, Math.max(1, most - 1));
    const rest = layer.length - kept.length;
    return rest > 0 ? [...kept, `+${rest}`] : kept;
  });
}

export function MapView({ map, open }: { map: ServiceMap; open: AlertState[] }): JSX.Element {
  const [host, width] = useWidth<HTMLDivElement>();
  const alerts = useMemo(() => alertsByService(open), [open]);
  const isLoud = useMemo(() => loudOf(open), [open]);
  const hotCalls = useMemo(() => new Set(open.filter(isLoud).flatMap((one) => (one.labels['client'] ? [`${one.labels['client']}>${one.labels['server']}`] : []))), [open, isLoud]);
  const byName = useMemo(() => new Map(map.nodes.map((one) => [one.name, one])), [map]);
  const feel = (name: string): Feel => {
    const alert = alerts.get(name);
    if (alert) return isLoud(alert) ? 'f' : 's';
    const status = byName.get(name)?.status ?? 'scored';
    return status === 'scored' ? '' : 'w';
  };
  const all = useMemo(() => layers(map), [map]);
  const widest = map.nodes.length <= MOST_WHOLE ? Math.max(1, ...all.map((layer) => layer.length)) : 5;
  const nw = Math.min(144, Math.max(92, width / widest - 10));
  const most = Math.max(1, Math.floor(width / (nw + 8)));
  const keep = new Set<string>();
  for (const name of alerts.keys()) {
    keep.add(name);
    for (const e of map.edges) if (e.server === name || e.client === name) keep.add(e.client).add(e.server);
  }
  const shown = fold(all, keep, most, map.nodes.length);
  const nh = 44;
  const gap = width > 860 ? 48 : 40;
  const height = Math.max(1, shown.length) * nh + Math.max(0, shown.length - 1) * gap + 8;
  const placed = new Map<string, Placed>();
  shown.forEach((layer, row) =>
    layer.forEach((name, at) => {
      const folded = name.startsWith('+') ? Number(name.slice(1)) : 0;
      const x = ((at + 0.5) / layer.length) * width;
      const half = nw / 2 + 4;
      placed.set(folded ? `${row}${name}` : name, {
        name, folded, node: byName.get(name) ?? null, feel: folded ? '' : feel(name),
        x: Math.round(Math.max(half, Math.min(width - half, x))), y: 4 + row * (nh + gap),
      });
    }),
  );
  const busiest = Math.max(1, ...map.edges.map((e) => e.rate ?? 0));
  const lines = map.edges
    .flatMap((e) => {
      const a = placed.get(e.client);
      const b = placed.get(e.server);
      if (!a || !b || a === b) return [];
      const hot = (a.feel === 'f' && b.feel === 'f') || hotCalls.has(`${e.client}>${e.server}`);
      const bend = Math.max(16, Math.min(44, Math.abs(b.y - a.y - nh) / 2));
      const d = `M${b.x} ${b.y}C${b.x} ${b.y - bend} ${a.x} ${a.y + nh + bend} ${a.x} ${a.y + nh}`;
      const wide = hot ? 6 : Math.max(1, 3.5 * Math.sqrt((e.rate ?? 0) / busiest));
      return [{ key: `${e.client}>${e.server}`, d, hot, wide, a }];
    })
    .sort((p, q) => Number(p.hot) - Number(q.hot));
  return (
    <div ref={host} data-map="">
      {width >= 400 && (
        <svg viewBox={`0 0 ${width} ${height}`} width={width} height={height} role="group" aria-label="Service map">
          {lines.map((one) => (
            <g key={one.key}>
              <path className={`edge ${one.hot ? 'f' : ''}`} d={one.d} strokeWidth={one.wide} />
              {one.hot && <path className="flow" d={one.d} />}
            </g>
          ))}
          {lines
            .filter((one) => one.hot)
            .map((one) => (
              <path
                key={one.key}
                d={`M${one.a.x - 6} ${one.a.y + nh + 12}L${one.a.x} ${one.a.y + nh + 4}L${one.a.x + 6} ${one.a.y + nh + 12}`}
                className="chev"
              />
            ))}
          {[...placed.values()].map((one) => (
            <Node key={`${one.y}${one.name}`} one={one} nw={nw} nh={nh} alert={alerts.get(one.name)} map={map} loud={one.feel === 'f'} />
          ))}
        </svg>
      )}
    </div>
  );
}

/** Calls a second and the share of failures, under the name of a service. */
function under(one: Placed, alert: AlertState | undefined, map: ServiceMap, loud: boolean): string {
  if (one.folded) return 'as usual';
  const { node } = one;
  if (alert && loud) {
    if (alert.foreshock.kind === 'silence') return 'silent';
    const feature = alert.labels['feature'] ?? '';
    if (/error_ratio|status_ratio/.test(feature) && node?.error_ratio) return quantity(node.error_ratio, '1', 'error_ratio') + ' fail';
    const observed = alert.annotations['observed'];
    if (observed !== undefined && !/^calls\.(rate|error_ratio)/.test(feature)) {
      const said = `${featureName(feature).replace(/^(latency|share of|rate of) ?/, '')} ${quantity(Number(observed), alert.annotations['unit'] ?? '', feature)}`;
      if (said.length <= 18) return said;
    }
  }
  if (node?.status === 'missing' || node?.status === 'stale') return 'nothing arrives';
  const rate = node?.rate ?? map.edges.filter((e) => e.client === one.name).reduce((sum, e) => sum + (e.rate ?? 0), 0);
  if (!node || node.entity === null) return `${num(rate)}/s`;
  const fails = node.error_ratio === null ? '' : ` · ${num((node.error_ratio ?? 0) * 100)}${NB}%`;
  return `${num(rate)}/s${fails}`;
}

function Node({ one, nw, nh, alert, map, loud }: { one: Placed; nw: number; nh: number; alert: AlertState | undefined; map: ServiceMap; loud: boolean }): JSX.Element {
  const [x, y] = [one.x - nw / 2, one.y];
  const name = one.folded ? `${one.folded} more` : one.name;
  const value = under(one, alert, map, loud);
  const mark: MarkName | null = one.feel === 'f' ? 'fire' : one.feel === 's' ? 'small' : one.feel === 'w' ? (one.node && one.node.status !== 'scored' ? one.node.status : 'missing') : null;
  const href = alert ? alertPath(alert.foreshock.episode) : one.node?.entity ? explorePath(one.node.entity) : '';
  const store = !!one.node?.entity && !map.edges.some((e) => e.client === one.name);
  const open = (): void => {
    if (href) go(href);
  };
  return (
    <g
      className={`node ${one.feel}`}
      {...(href ? { tabIndex: 0, role: 'link', onClick: open, onKeyDown: (e: React.KeyboardEvent) => e.key === 'Enter' && open() } : { role: 'img' })}
      aria-label={`${name}: ${value}`}
    >
      <rect className="foc" x={x - 6} y={y - 6} width={nw + 12} height={nh + 12} rx="10" />
      <rect className="b" x={x} y={y} width={nw} height={nh} rx="6" />
      {store && <path d={`M${x + 6} ${y + nh - 4}h${nw - 12}`} className="store" />}
      <text x={x + 8} y={y + 18} {...(name.length * 9 > nw - (mark ? 28 : 16) ? { style: { fontSize: 12 } } : {})}>
        {name.length > nw / 8 ? name.slice(0, Math.floor(nw / 8) - 1) + '…' : name}
      </text>
      <text className="s" x={x + 8} y={y + 35}>
        {value}
      </text>
      {mark && (
        <svg x={x + nw - 20} y={y + 8} width="12" height="12" viewBox="0 0 12 12" className={mark === 'fire' ? 'fire' : 'mute'} overflow="visible">
          {shape(mark)}
        </svg>
      )}
    </g>
  );
}

/** On a phone: those that stand out, from the deepest up. */
export function MapPath({ map, open }: { map: ServiceMap; open: AlertState[] }): JSX.Element {
  const alerts = alertsByService(open);
  const order = layers(map).flat().reverse();
  const isLoud = loudOf(open);
  const hot = order.filter((one) => alerts.has(one) && isLoud(alerts.get(one)!));
  const services = map.nodes.filter((one) => one.entity !== null);
  const warming = services.filter((one) => one.status === 'warming_up').length;
  const others = services.length - hot.length;
  return (
    <>
      <ol className="path">
        {hot.map((one) => {
          const alert = alerts.get(one)!;
          const node = map.nodes.find((n) => n.name === one) ?? null;
          return (
            <li key={one}>
              <Mark name="fire" label="anomalous" />
              <a href={alertPath(alert.foreshock.episode)}>
                <b>{one}</b>
              </a>
              <span className="fire">{under({ name: one, node, folded: 0, x: 0, y: 0, feel: 'f' }, alert, map, true)}</span>
            </li>
          );
        })}
      </ol>
      <p className="sub path">
        {others} {hot.length ? 'other services are' : 'services are'} as usual{warming ? `, ${warming} of them warming up` : ''}.
      </p>
    </>
  );
}
