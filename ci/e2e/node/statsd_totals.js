// A backend for the original statsd: adds up what the flushes bring, and writes it to a file after each of them.
'use strict';
const fs = require('fs');

const totals = { flushes: 0, counters: {}, gauges: {}, timers: {}, sets: {} };

function add({ counters, gauges, timers, timer_counters: counts, sets }) {
    totals.flushes += 1;
    for (const [name, sum] of Object.entries(counters)) totals.counters[name] = (totals.counters[name] ?? 0) + sum;
    totals.gauges = gauges;
    for (const [name, values] of Object.entries(timers)) {
        const timer = (totals.timers[name] ??= { values: 0, count: 0, sum: 0, min: values[0], max: values[0] });
        timer.values += values.length;
        timer.count += counts[name];
        for (const value of values) {
            timer.sum += value;
            timer.min = Math.min(timer.min, value);
            timer.max = Math.max(timer.max, value);
        }
    }
    for (const [name, set] of Object.entries(sets)) {
        totals.sets[name] = [...new Set([...(totals.sets[name] ?? []), ...set.values()])].sort();
    }
}

exports.init = (startedAt, config, events) => {
    events.on('flush', (time, metrics) => {
        add(metrics);
        // Whoever reads finds a whole file.
        const part = `${config.totals}.part`;
        fs.writeFileSync(part, JSON.stringify(totals));
        fs.renameSync(part, config.totals);
    });
    return true;
};
