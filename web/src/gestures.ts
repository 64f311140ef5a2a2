/** Zooming and moving a chart by wheel, pinch and drag. Dragging with the mouse alone selects: uPlot does that. */

import { moved, zoomed, type Range } from './range';

export interface Gestures {
  /** What is shown now. */
  range: () => Range;
  set: (range: Range) => void;
  /** The time under a pixel from the left of the element. */
  at: (left: number) => number;
}

/** A wheel that was scrolling the page goes on doing so when a chart comes under it. */
const SCROLLING_MS = 250;
const LINE = 16;

let scrolledAt = -Infinity;
if (typeof addEventListener !== 'undefined') addEventListener('scroll', () => (scrolledAt = performance.now()), { passive: true });

/** Listen to an element until the returned function is called. However fast things come, each frame is drawn once. */
export function attach(element: HTMLElement, to: Gestures, frame: (draw: () => void) => void = requestAnimationFrame): () => void {
  let next: Range | null = null;
  const current = (): Range => next ?? to.range();
  const set = (range: Range): void => {
    const waiting = next !== null;
    next = range;
    if (waiting) return;
    frame(() => {
      const last = next!;
      next = null;
      to.set(last);
    });
  };
  /** The time under a pixel, in the range that is to come. */
  const at = (pixel: number): number => {
    const [shown, now] = [to.range(), current()];
    const share = (to.at(pixel) - shown[0]) / (shown[1] - shown[0] || 1);
    return now[0] + share * (now[1] - now[0]);
  };
  const left = (clientX: number): number => clientX - element.getBoundingClientRect().left;
  const move = (pixels: number): void => set(moved(current(), pixels / Math.max(1, element.clientWidth)));

  const wheel = (event: WheelEvent): void => {
    if (!event.ctrlKey && performance.now() - scrolledAt < SCROLLING_MS) return;
    event.preventDefault();
    const unit = event.deltaMode === 1 ? LINE : 1;
    const [x, y] = event.shiftKey ? [event.deltaY || event.deltaX, 0] : [event.deltaX, event.deltaY];
    if (Math.abs(x) > Math.abs(y)) move(x * unit);
    else set(zoomed(current(), at(left(event.clientX)), Math.exp(Math.max(-1, Math.min(1, y * unit * (event.ctrlKey ? 0.01 : 0.002))))));
  };

  const fingers = new Map<number, number>();
  const spread = (): [number, number] => {
    const [a = 0, b = a] = [...fingers.values()];
    return [(a + b) / 2, Math.abs(a - b)];
  };
  const down = (event: PointerEvent): void => {
    if (event.pointerType !== 'touch') return;
    fingers.set(event.pointerId, left(event.clientX));
    element.setPointerCapture?.(event.pointerId);
  };
  const drag = (event: PointerEvent): void => {
    if (!fingers.has(event.pointerId)) return;
    const [before, wide] = spread();
    fingers.set(event.pointerId, left(event.clientX));
    const [after, now] = spread();
    if (fingers.size === 2 && wide > 8 && now > 8) set(zoomed(current(), at(before), wide / now));
    move(before - after);
  };
  const up = (event: PointerEvent): void => void fingers.delete(event.pointerId);

  // With the middle button, or with Shift, the mouse moves what is shown instead of selecting.
  const mouse = (event: MouseEvent): void => {
    if (!(event.button === 1 || (event.button === 0 && event.shiftKey))) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    let last = event.clientX;
    const follow = (next: MouseEvent): void => {
      move(last - next.clientX);
      last = next.clientX;
    };
    const end = (): void => {
      removeEventListener('mousemove', follow);
      removeEventListener('mouseup', end);
    };
    addEventListener('mousemove', follow);
    addEventListener('mouseup', end);
  };

  element.style.touchAction = 'pan-y';
  element.addEventListener('wheel', wheel, { passive: false });
  element.addEventListener('pointerdown', down);
  element.addEventListener('pointermove', drag);
  element.addEventListener('pointerup', up);
  element.addEventListener('pointercancel', up);
  element.addEventListener('mousedown', mouse, true);
  return () => {
    element.removeEventListener('wheel', wheel);
    element.removeEventListener('pointerdown', down);
    element.removeEventListener('pointermove', drag);
    element.removeEventListener('pointerup', up);
    element.removeEventListener('pointercancel', up);
    element.removeEventListener('mousedown', mouse, true);
  };
}
