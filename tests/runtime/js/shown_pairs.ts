// For the test in Python: each random value as a worker stores it and as a worker shows it, a line of JSON each.

import { jsonText, shownText } from "../../../src/statebacked/runtime/js/json.ts";
import { randomValue } from "./random_values.ts";

for (let seed = 0; seed < Number(Deno.args[0]); seed++) {
  const value = randomValue(seed);
  console.log(jsonText(value));
  console.log(shownText(value));
}
