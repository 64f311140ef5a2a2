import { useMemo, useState } from 'react';

import { endOf, startOf } from '../../parts';
import { useChart, useStretch } from '../../queries';
import { withGaps, withTail, type Range } from '../../range';
import type { AlertState, Chart } from '../../types';

/** So much of what was before an alert is shown at least (s), and so much of what came after it. */
const LEAD = 1800;
const AFTER = 600;
const MOST = 1000;

/** A series around an alert: the newest points where they reach back to before it, else what is kept of that time. */
export function useAround(alert: AlertState, entity: string | undefined, feature: string | undefined): { data: Chart | undefined; isError: boolean; error: unknown; refetch: () => unknown } {
  const live = useChart(entity, feature);
  const [now] = useState(() => Date.now() / 1000);
  const start = startOf(alert) / 1000;
  const ended = endOf(alert);
  const end = ended === null ? null : ended / 1000;
  const first = live.data?.points.time_unix_seconds[0];
  const reaches = first !== undefined && first <= start - AFTER;
  const lead = Math.max(LEAD, (end ?? now) - start);
  const stretch: Range | null = entity && feature && !live.isPending && !reaches ? [start - lead, (end ?? now) + AFTER] : null;
  const kept = useStretch(entity ?? '', feature ?? '', stretch, MOST);
  const data = useMemo(() => {
    if (reaches || !kept.data) return reaches || kept.isError ? live.data : undefined;
    return withGaps(end === null ? withTail(kept.data, live.data) : kept.data);
  }, [reaches, kept.data, kept.isError, live.data, end]);
  const failed = reaches ? live : kept;
  return { data, isError: failed.isError || (live.isError && kept.isError), error: failed.error, refetch: () => (void live.refetch(), kept.refetch()) };
}
