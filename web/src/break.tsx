import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useEffect, useMemo, useRef, useState, type JSX } from 'react';

import { post, remove } from './api';
import { duration, NB } from './format';
import { useLive } from './live';
import { Icon, Mark } from './marks';
import { Seg } from './parts';
import { useFaults } from './queries';
import { alertPath } from './router';
import type { FaultState } from './types';

const FAULTS: Record<string, [string, string]> = {
  error_spike: ['Errors', 'a share of calls fails'],
  latency: ['Slowness', 'every request waits'],
  crash: ['Crash', 'stops, starts, stops'],
  pool_exhaustion: ['Full pool', 'no free connections'],
  memory_leak: ['Memory leak', 'until it is killed'],
  cpu_hog: ['Busy CPU', 'cores are taken away'],
  retry_storm: ['Retry storm', 'callers try again'],
  traffic_surge: ['Traffic surge', 'many more visitors'],
  slow_dependency: ['Slow store', 'more work a request'],
  disk_fill: ['Filling disk', 'writes fail once full'],
  bad_deploy: ['Bad deploy', 'a version with a bug'],
};

/** The panel of the demo in which things are broken; Foreshock is not told. */
export function BreakPanel({ onClose }: { onClose: () => void }): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const cache = useQueryClient();
  const standing = useLive((live) => live.standing);
  const faults = useFaults(true, true);
  const [service, setService] = useState('payment');
  const [kind, setKind] = useState('error_spike');
  const [magnitude, setMagnitude] = useState<'small' | 'large'>('large');
  const [mine, setMine] = useState<FaultState | null>(null);
  const kinds = faults.data?.kinds ?? [];
  const able = useMemo(() => kinds.find((one) => one.kind === kind)?.services ?? [], [kinds, kind]);
  const can = able.includes(service);

  useEffect(() => {
    const element = dialog.current;
    if (element && !element.open) element.showModal();
  }, []);

  const again = (): void => void cache.invalidateQueries({ queryKey: ['faults'] });
  const smash = useMutation({
    mutationFn: () => post<FaultState>('/api/v1/demo/faults', { kind, service, magnitude }),
    onSuccess: (fault) => {
      setMine(fault);
      again();
    },
  });
  const heal = useMutation({ mutationFn: () => remove('/api/v1/demo/faults'), onSuccess: again });

  const now = standing ? standing.now_unix_seconds : Date.now() / 1000;
  const running = (faults.data?.faults ?? []).filter((one) => one.running);
  const current = faults.data?.faults.find((one) => mine && one.kind === mine.kind && one.service === mine.service && one.start === mine.start) ?? mine;
  const usual = kinds.find((one) => one.kind === kind)?.duration_seconds ?? 0;
  return (
    <dialog ref={dialog} aria-labelledby="brk-h" onClose={onClose} onClick={(event) => event.target === dialog.current && dialog.current?.close()}>
      <form className="brk" method="dialog" onSubmit={(event) => event.preventDefault()}>
        <header>
          <div>
            <h2 id="brk-h">Break something</h2>
            <p className="soft">It is only a shop. Foreshock is not told what you did.</p>
          </div>
          <button className="btn ghost icon" type="button" aria-label="Close" onClick={() => dialog.current?.close()}>
            <Icon name="x" />
          </button>
        </header>
        <fieldset>
          <legend>Which service?</legend>
          <div className="chips">
            {(faults.data?.services ?? []).map((one) => (
              <label className="chip" key={one}>
                <input type="radio" name="svc" value={one} checked={one === service} onChange={() => setService(one)} />
                <span>{one}</span>
              </label>
            ))}
          </div>
        </fieldset>
        <fieldset>
          <legend>How?</legend>
          <div className="faults">
            {kinds.map((one) => {
              const [name, says] = FAULTS[one.kind] ?? [one.kind, one.words];
              return (
                <label className="chip" key={one.kind}>
                  <input type="radio" name="kind" value={one.kind} checked={one.kind === kind} onChange={() => setKind(one.kind)} />
                  <span>
                    {name}
                    <small>{says}</small>
                  </span>
                </label>
              );
            })}
          </div>
        </fieldset>
        <fieldset className="how-much">
          <legend className="vh">How much</legend>
          <Seg label="How much" value={magnitude} choices={[['small', 'A little'], ['large', 'A lot']]} onChoose={setMagnitude} />
          <span className="soft">{usual ? `for ${duration(usual)}, then it heals` : ''}</span>
        </fieldset>
        <div className="done">
          {current && <Watch fault={current} now={now} close={() => dialog.current?.close()} />}
          {smash.isError && (
            <p className="fire" role="alert">
              {smash.error.message}
            </p>
          )}
          <button className="big" type="button" disabled={smash.isPending || !can} onClick={() => smash.mutate()}>
            {can ? `Break ${service}` : `${service} cannot have this`}
          </button>
          {running.length > 0 && (
            <button className="btn" type="button" disabled={heal.isPending} onClick={() => heal.mutate()}>
              Heal {running.map((one) => one.service).join(', ')}
            </button>
          )}
          <p className="mute small centred">
            or in a terminal: <code>foreshock demo --fault {kind}</code>
          </p>
        </div>
      </form>
    </dialog>
  );
}

function Watch({ fault, now, close }: { fault: FaultState; now: number; close: () => void }): JSX.Element {
  const seconds = fault.noticed ? (fault.delay_seconds ?? 0) : Math.max(0, now - Date.parse(fault.start) / 1000);
  return (
    <div className="watch" role="status">
      <b>
        {seconds.toFixed(seconds < 10 ? 1 : 0)}
        {NB}s
      </b>
      {fault.noticed ? (
        <span>
          <Mark name="fire" /> <strong>Noticed.</strong> {fault.found_service ?? 'the shop'}.{' '}
          {fault.episode && (
            <a href={alertPath(fault.episode)} onClick={close}>
              Open alert
            </a>
          )}
        </span>
      ) : (
        <span>since {fault.service} broke. Not noticed yet.</span>
      )}
    </div>
  );
}
