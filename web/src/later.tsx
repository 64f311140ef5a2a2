import { Component, lazy, Suspense, useEffect, type ComponentType, type JSX, type ReactNode } from 'react';

import { Failed, Loading, Panel, SkeletonRows } from './parts';

const loads: (() => Promise<unknown>)[] = [];
const LATER_MS = 1500;

/** A page that the first view does without: it is loaded right after it, or when it is asked for. */
export function later<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  loads.push(load);
  return lazy(() => load().then((found) => ({ default: found })));
}

/** Load the rest once the first view is there, so that it is also there when the server is not. */
export function useRest(): void {
  useEffect(() => {
    const timer = setTimeout(() => loads.forEach((load) => void load().catch(() => {})), LATER_MS);
    return () => clearTimeout(timer);
  }, []);
}

/** The shape of a page until it is loaded, and what is wrong where it cannot be. */
export function Later({ children }: { children: ReactNode }): JSX.Element {
  return (
    <Boundary>
      <Suspense
        fallback={
          <Loading>
            <SkeletonRows rows={8} />
          </Loading>
        }
      >
        {children}
      </Suspense>
    </Boundary>
  );
}

class Boundary extends Component<{ children: ReactNode }, { error: unknown }> {
  override state = { error: null as unknown };

  static getDerivedStateFromError(error: unknown): { error: unknown } {
    return { error };
  }

  override render(): ReactNode {
    if (this.state.error === null) return this.props.children;
    return (
      <Panel title="This page">
        <Failed what="This page" error={this.state.error} still="The others are there." again={() => location.reload()} />
      </Panel>
    );
  }
}
