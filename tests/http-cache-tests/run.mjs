// Runs the public suite against the cache at the address that is given, and writes what became of each test as JSON:
// {"id": {"kind": "required", "outcome": "pass", "detail": "…"}}. The verdict is the suite's own.
//
// node run.mjs http://host:port/base [id …]

import { runTests, getResults } from 'http-cache-tests/client/runner.mjs'
import * as display from 'http-cache-tests/lib/display.mjs'
import tests from 'http-cache-tests/tests/index.mjs'
import surrogate from 'http-cache-tests/tests/surrogate-control.mjs'
import fetch from 'node-fetch'

const OUTCOMES = {
  '✅': 'pass',
  '⛔️': 'fail',
  '⚠️': 'fail',
  Y: 'yes',
  N: 'no',
  '🔹': 'setup failed',
  '⁉️': 'harness failed',
  '⚪️': 'dependency failed',
  '↻': 'retried',
  '-': 'not run'
}

const [base, ...ids] = process.argv.slice(2)
const all = [...tests, surrogate]
const wanted = ids.length === 0
  ? all
  : all.map(suite => ({ ...suite, tests: suite.tests.filter(test => ids.includes(test.id)) }))
if (ids.length > 0) wanted.forEach(suite => suite.tests.forEach(test => { test.dump = true }))

await runTests(wanted, fetch, false, base)
const results = getResults()
const outcomes = {}
for (const suite of wanted) {
  for (const test of suite.tests.filter(test => test.browser_only !== true)) {
    const verdict = display.determineTestResult(all, test.id, results)
    outcomes[test.id] = {
      kind: test.kind ?? 'required',
      outcome: OUTCOMES[verdict[2]] ?? verdict[2],
      detail: Array.isArray(results[test.id]) ? results[test.id].join(': ') : ''
    }
  }
}
console.log(JSON.stringify(outcomes))
