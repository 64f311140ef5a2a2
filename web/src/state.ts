import type { Live } from './live';
import { announced, loudOf, startOf } from './parts';
import type { AlertState } from './types';

/** How the page as a whole stands. */
export type PageState = 'loading' | 'empty' | 'disconnected' | 'stale' | 'learning' | 'firing' | 'small' | 'quiet';

/** Data older than this is told as old (s). */
export const STALE_SECONDS = 60;

export function pageState(live: Live, open: AlertState[] | undefined): PageState {
  if (live.link === 'lost') return 'disconnected';
  const { standing } = live;
  if (!standing || open === undefined) return 'loading';
  if (!standing.entities) return 'empty';
  if ((standing.silent_seconds ?? 0) > STALE_SECONDS) return 'stale';
  const serious = open.filter((one) => one.foreshock.kind !== 'change');
  if (serious.some(announced)) return 'firing';
  const judged = [...live.entities.values()].some((one) => one[1] === 'scored' && one[2] !== null);
  if (!judged && live.entities.size) return 'learning';
  return serious.length ? 'small' : 'quiet';
}

/**
 * The alert that the sentence is about: of the group that was announced with the greatest strength, the first about
 * something that has a name of its own, for calls between two say less than who answers them.
 */
export function headline(open: AlertState[]): AlertState | undefined {
  const loud = open.filter((one) => announced(one) && one.foreshock.kind !== 'change');
  const top = [...loud].sort((a, b) => b.foreshock.strength - a.foreshock.strength || startOf(a) - startOf(b))[0];
  if (!top || !top.foreshock.group) return top;
  const group = open.filter((one) => one.foreshock.group === top.foreshock.group && one.foreshock.kind !== 'change');
  const named = group.filter((one) => !('client' in one.labels) && !('deployment_environment_name' in one.labels));
  return [...(named.length ? named : group)].sort((a, b) => startOf(a) - startOf(b) || b.foreshock.strength - a.foreshock.strength)[0];
}

/** Announced, or of a group of which one was, first; then the rest, the latest first. Slow changes stand last. */
export function inOrder(open: AlertState[]): { loud: AlertState[]; small: AlertState[] } {
  const isLoud = loudOf(open);
  const first = headline(open);
  const rank = (one: AlertState): number => (one === first ? -1e9 : 0) - one.foreshock.strength - ('client' in one.labels ? 0 : 1e3);
  const loud = open.filter(isLoud).sort((a, b) => rank(a) - rank(b));
  const small = open
    .filter((one) => !isLoud(one))
    .sort((a, b) => Number(a.foreshock.kind === 'change') - Number(b.foreshock.kind === 'change') || startOf(b) - startOf(a));
  return { loud, small };
}
