// Drives the `openai` package for Node against a server and prints one JSON object of what it saw.
// usage: node driver.mjs URL ADAPTER
import OpenAI from "openai";

const [url, adapter] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Hello" }];
const greedy = { model: adapter, max_tokens: 12, temperature: 0 };

const { data: chat, response } = await client.chat.completions.create({ ...greedy, messages }).withResponse();

const stream = await client.chat.completions.create({
  ...greedy,
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
let streamed = "";
let usage = null;
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}

const completion = await client.completions.create({ ...greedy, prompt: ["Hello", "Bye"], n: 2, logprobs: 2 });

const structured = await client.chat.completions.create({
  ...greedy,
  max_tokens: 80,
  messages,
  response_format: {
    type: "json_schema",
    json_schema: {
      name: "colour",
      schema: {
        type: "object",
        properties: { colour: { enum: ["red", "green"] } },
        required: ["colour"],
        additionalProperties: false,
      },
    },
  },
});

const tool = {
  type: "function",
  function: {
    name: "paint",
    parameters: {
      type: "object",
      properties: { colour: { enum: ["red", "green"] } },
      required: ["colour"],
      additionalProperties: false,
    },
  },
};
const called = await client.chat.completions.create({
  ...greedy,
  max_tokens: 120,
  messages,
  tools: [tool],
  tool_choice: { type: "function", function: { name: "paint" } },
});

const models = [];
for await (const model of client.models.list()) models.push(model.id);

let error = null;
try {
  await client.chat.completions.create({ ...greedy, model: "no-such-adapter", messages });
} catch (caught) {
  error = { name: caught.constructor.name, status: caught.status, code: caught.code };
}

console.log(
  JSON.stringify({
    adapter: response.headers.get("x-adapter-name"),
    text: chat.choices[0].message.content,
    streamed,
    tokens: chat.usage.completion_tokens,
    streamed_tokens: usage.completion_tokens,
    choices: completion.choices.map((choice) => choice.index),
    logprobs: completion.choices[0].logprobs.token_logprobs.length,
    structured: structured.choices[0].message.content,
    finish_reason: called.choices[0].finish_reason,
    call: called.choices[0].message.tool_calls[0].function,
    models,
    error,
  }),
);
