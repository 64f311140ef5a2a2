import { describe, expect, it } from 'vitest';

import { alertEntity, count, duration, entityName, featureName, labelsOf, num, quantity, said, span, times } from './format';

const plain = (text: string): string => text.replace(/\u202f/g, ' ');

describe('numbers', () => {
  it('have two or three digits', () => {
    expect([0, 0.004, 0.123, 1.25, 42.42, 123.4, 1234, 56789, 4.2e6, 1.3e10].map(num).map(plain)).toEqual(
      ['0', '0.004', '0.12', '1.3', '42.4', '123', '1.2 k', '57 k', '4.2 M', '13 G'],
    );
    expect([null, undefined, NaN].map(num)).toEqual(['–', '–', '–']);
  });

  it('carry their units', () => {
    const shown: [number, string, string, string][] = [
      [0.121, '1', 'calls.error_ratio', '12.1 %'], [2.9, 's', '', '2.9 s'], [0.0123, 's', '', '12.3 ms'], [150, 'ms', '', '150 ms'],
      [5.12e6, 'By/s', '', '5.1 MB/s'], [412, '1/s', '', '412/s'], [20, '{connection}', '', '20'], [0.5, '1', 'load', '0.5'], [300, 's', '', '5 min'],
    ];
    for (const [v, unit, feature, text] of shown) expect(plain(quantity(v, unit, feature))).toBe(text);
    expect(quantity(null, 's')).toBe('missing');
  });

  it('share one unit in a span', () => {
    expect(plain(span(0.08, 0.15, 's'))).toBe('80 to 150 ms');
    expect(plain(span(0, 0.01, '1', 'calls.error_ratio'))).toBe('0 to 1 %');
    expect(plain(span(null, 4, 's'))).toBe('at most 4 s');
    expect(span(null, null)).toBe('not known yet');
  });
});

describe('names', () => {
  it('are those that people use', () => {
    expect(entityName({ 'service.name': 'payment' })).toBe('payment');
    expect(entityName({ client: 'checkout', server: 'payment' })).toBe('checkout → payment');
    expect(alertEntity({ alertname: 'A', severity: 'warning', feature: 'f', service_name: 'cart' })).toBe('cart');
    expect(featureName('calls.error_ratio')).toBe('error ratio');
    expect(featureName('calls.status_ratio{class="5xx"}')).toBe('share of 5xx');
    expect(featureName('db.client.connections.usage{server.address="redis"}')).toBe('pool in use, redis');
    expect(featureName('my_own.metric')).toBe('my own metric');
    expect(featureName(undefined)).toBe('all features together');
  });

  it('are read from canonical text', () => {
    expect(labelsOf('{a="x \\"y\\"",b="1"}')).toEqual({ a: 'x "y"', b: '1' });
  });
});

describe('claims', () => {
  const of = (labels: Record<string, string>, past = false): string => said(labels, '41 %', past);
  it('say who, what and how much', () => {
    expect(of({ service_name: 'payment', feature: 'calls.error_ratio' })).toBe('payment fails 41 % of requests');
    expect(of({ service_name: 'payment', feature: 'calls.error_ratio' }, true)).toBe('payment failed 41 % of requests');
    expect(of({ client: 'web', server: 'cart', feature: 'calls.error_ratio' })).toBe('41 % of calls from web to cart fail');
    expect(of({ service_name: 'payment', feature: 'calls.status_ratio{class="2xx"}' })).toBe('41 % of payment’s answers are 2xx');
    expect(of({ service_name: 'payment', feature: 'container.cpu.utilization' })).toBe('payment’s CPU is 41 %');
    expect(said({ service_name: 'payment', feature: 'calls.error_ratio' }, '41 %', true, 'up')).toBe('payment failed up to 41 % of requests');
  });
  it('say how far it went', () => {
    const labels = { service_name: 'payment', feature: 'calls.status_ratio{class="2xx"}' };
    expect(said(labels, '41 %', true, 'down')).toBe('Only 41 % of payment’s answers were 2xx');
    expect(said({ ...labels, feature: 'calls.rate' }, '3/s', true, 'down')).toBe('payment’s request rate was down to 3/s');
  });
  it('write scores as a multiple of the bar', () => {
    expect([times(2e-22), times(0.09), times(6.71)].map((one) => one.replace('\u202f', ' '))).toEqual(['0 ×', '0.09 ×', '6.7 ×']);
  });
});

it('durations and counts are said plainly', () => {
  expect([5, 944, 7500, 259200].map(duration).map(plain)).toEqual(['5 s', '15 min 44 s', '2 h 5 min', '3 days']);
  expect([count(1, 'alert'), count(2, 'alert'), count(2, 'series', 'series')]).toEqual(['1 alert', '2 alerts', '2 series']);
});
