// The station's OPC UA server as an independent client sees it: node-opcua. test_opcua_node.py starts the server.
// usage: node opcua.test.mjs URL FOLDER [vision]    FOLDER holds the certificates, INSPECTOR_NODE_MODULES node-opcua

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";

const require = createRequire(join(process.env.INSPECTOR_NODE_MODULES, "..", "package.json"));
const {
  AttributeIds, DataType, MessageSecurityMode, OPCUACertificateManager, OPCUAClient, SecurityPolicy, StatusCodes,
  TimestampsToReturn, UserTokenType, constructEventFilter, getExtraDataTypeManager, makeBrowsePath,
} = require("node-opcua");

const [url, folder, vision] = process.argv.slice(2);
const password = "correct horse battery";
const namespace = "urn:inspector:station";
const often = {
  requestedPublishingInterval: 10,
  requestedLifetimeCount: 1000,
  requestedMaxKeepAliveCount: 10,
  publishingEnabled: true,
};

function client(certificate) {
  const common = { endpointMustExist: false, connectionStrategy: { maxRetry: 0 } };
  if (certificate === undefined) return OPCUAClient.create(common);
  return OPCUAClient.create({
    ...common,
    applicationUri: `urn:test:${certificate}`,
    certificateFile: join(folder, `${certificate}.pem`),
    privateKeyFile: join(folder, `${certificate}.key.pem`),
    clientCertificateManager: pki,
    securityMode: MessageSecurityMode.SignAndEncrypt,
    securityPolicy: SecurityPolicy.Basic256Sha256,
  });
}

async function connected(certificate, user, work) {
  const identity = user && { type: UserTokenType.UserName, userName: user, password };
  const opcua = client(certificate);
  await opcua.connect(url);
  try {
    const session = await opcua.createSession(identity);
    try {
      const names = await session.readNamespaceArray();
      const index = names.indexOf(namespace);
      return await work(session, (path) => `ns=${index};s=${path}`, index);
    } finally {
      await session.close();
    }
  } finally {
    await opcua.disconnect();
  }
}

function writing(id, values) {
  return Object.entries(values).map(([name, [dataType, value]]) => ({
    nodeId: id(`Station.Plc.${name}`),
    attributeId: AttributeIds.Value,
    value: { value: { dataType, value } },
  }));
}

let beat = 0;

// A PLC whose heartbeat stands still is not inspected for.
async function beating(session, id, work) {
  const write = () => {
    beat = (beat + 1) % 0x10000;
    return session.write(writing(id, { Enable: [DataType.Boolean, true], Heartbeat: [DataType.UInt16, beat] }));
  };
  await write();
  await until(() => value(session, id("Station.Ready")));
  const timer = setInterval(write, 200);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
}

async function value(session, nodeId) {
  const read = await session.read({ nodeId, attributeId: AttributeIds.Value });
  assert.equal(read.statusCode, StatusCodes.Good);
  return read.value.value;
}

async function until(true_) {
  for (let tries = 0; !(await true_()); tries += 1) {
    assert.ok(tries < 500, "it did not come true");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

let pki;

before(async () => {
  pki = new OPCUACertificateManager({ rootFolder: join(folder, "pki"), automaticallyAcceptUnknownCertificate: true });
  await pki.initialize();
});

after(() => pki.dispose());

test("the two endpoints are found, and how to get in", async () => {
  const opcua = client();
  await opcua.connect(url);
  const endpoints = await opcua.getEndpoints();
  await opcua.disconnect();
  const found = endpoints.map((point) => [MessageSecurityMode[point.securityMode], point.userIdentityTokens.length]);
  assert.deepEqual(found.sort(), [["None", 1], ["SignAndEncrypt", 2]]);
  assert.ok(endpoints.every((point) => point.endpointUrl === url));
});

test("everybody reads by path, and nobody writes, calls or logs in unencrypted", () =>
  connected(undefined, undefined, async (session, id, index) => {
    const path = makeBrowsePath("ObjectsFolder", `/${index}:Station/${index}:Plc/${index}:TriggerSeq`);
    const [target] = (await session.translateBrowsePath(path)).targets;
    assert.equal(target.targetId.toString(), id("Station.Plc.TriggerSeq"));
    assert.equal(await value(session, id("Station.MapVersion")), 0x0100);
    const values = { TriggerSeq: [DataType.UInt16, 1], Enable: [DataType.Boolean, true] };
    const codes = await session.write(writing(id, values));
    assert.deepEqual(codes, [StatusCodes.BadUserAccessDenied, StatusCodes.BadUserAccessDenied]);
    const called = await session.call({ objectId: id("Station"), methodId: id("Station.Trigger"), inputArguments: [] });
    assert.equal(called.statusCode, StatusCodes.BadUserAccessDenied);
  }));

test("a password is not taken in the clear", () =>
  assert.rejects(connected(undefined, "plc", () => assert.fail("let in"))));

test("a certificate that nobody trusts is refused", () =>
  assert.rejects(connected("stranger", "plc", () => assert.fail("let in")), /BadCertificateUntrusted/));

test("an observer writes nothing on the encrypted endpoint either", () =>
  connected("friend", "observer", async (session, id) => {
    const [code] = await session.write(writing(id, { TriggerSeq: [DataType.UInt16, 1] }));
    assert.equal(code, StatusCodes.BadUserAccessDenied);
    assert.equal(await value(session, id("Station.Plc.TriggerSeq")), 0);
  }));

test("parts are triggered by writes and by the method, and results come whole to whoever subscribes", () =>
  connected("friend", "plc", async (session, id) => {
    const results = [];
    const names = ["ResultSeq", "PartId", "Ok", "Ng", "Outcome", "OutcomeInverse", "Encoder", "ResultValid"];
    const seen = {}; // by the item's handle: values may come before it is known whose they are
    const handles = {};
    const subscription = await session.createSubscription2(often);
    subscription.on("raw_notification", (notification) => {
      for (const data of notification.notificationData)
        for (const item of data.monitoredItems ?? []) seen[item.clientHandle] = item.value.value.value;
      results.push(Object.fromEntries(names.map((name) => [name, seen[handles[name]]])));
    });
    const items = names.map((name) => ({ nodeId: id(`Station.${name}`), attributeId: AttributeIds.Value }));
    const latest = { samplingInterval: 0, queueSize: 1 };
    const group = await subscription.monitorItems(items, latest, TimestampsToReturn.Both);
    group.monitoredItems.forEach((item, number) => (handles[names[number]] = item.monitoringParameters.clientHandle));

    await beating(session, id, async () => {
      const rest = { Encoder: [DataType.UInt32, 70000], DeadlineMs: [DataType.UInt16, 300] };
      const first = { PartId: [DataType.String, "W-1"], ...rest, TriggerSeq: [DataType.UInt16, 41] };
      for (const [name, typed] of Object.entries(first))
        assert.deepEqual(await session.write(writing(id, { [name]: typed })), [StatusCodes.Good]);
      await until(() => results.at(-1)?.ResultSeq === 41);

      const second = { TriggerSeq: [DataType.UInt16, 42], PartId: [DataType.String, "W-2"], ...rest };
      await session.write(writing(id, second));
      await until(() => results.at(-1)?.ResultSeq === 42);

      const called = await session.call({
        objectId: id("Station"),
        methodId: id("Station.Trigger"),
        inputArguments: [
          { dataType: DataType.String, value: "W-3" },
          { dataType: DataType.UInt32, value: 70002 },
          { dataType: DataType.UInt16, value: 300 },
        ],
      });
      assert.equal(called.statusCode, StatusCodes.Good);
      assert.equal(called.outputArguments[0].value, 43);
      await until(() => results.at(-1)?.ResultSeq === 43);

      const acknowledged = await session.call({
        objectId: id("Station"),
        methodId: id("Station.Acknowledge"),
        inputArguments: [{ dataType: DataType.UInt16, value: 43 }],
      });
      assert.equal(acknowledged.statusCode, StatusCodes.Good);
      await until(() => results.at(-1)?.ResultValid === false);
    });

    const shown = results.filter((result) => result.ResultSeq && result.ResultValid);
    const parts = new Set(shown.map((result) => `${result.ResultSeq} ${result.PartId}`));
    assert.deepEqual([...parts], ["41 W-1", "42 W-2", "43 W-3"]);
    for (const result of shown) {
      const good = result.ResultSeq % 2 === 0; // as the station of the test decides
      assert.deepEqual([result.Ok, result.Ng, result.Outcome], good ? [true, false, 1] : [false, true, 2]);
      assert.equal(result.Outcome ^ result.OutcomeInverse, 0xffff);
    }

    const [wrong, rest] = await session.write(
      writing(id, { PartId: [DataType.String, "x".repeat(21)], TriggerSeq: [DataType.UInt16, 44] }),
    );
    assert.deepEqual([wrong, rest], [StatusCodes.BadOutOfRange, StatusCodes.BadInvalidState]);
    assert.equal(await value(session, id("Station.Plc.TriggerSeq")), 43);
    await subscription.terminate();
  }));

test("a supervisor follows OPC 40100-1: states, and an event for each result", { skip: vision === undefined }, () =>
  connected("friend", "plc", async (session, id) => {
    const index = (await session.readNamespaceArray()).indexOf("http://opcfoundation.org/UA/MachineVision");
    await getExtraDataTypeManager(session); // the standard's structures, as the server describes them
    const state = async (machine) => (await value(session, id(`VisionSystem.${machine}.CurrentState`))).text;
    assert.equal(await state("VisionStateMachine"), "Operational");

    const names = ["ResultId", "PartId", "ResultState", "InternalRecipeId", "ResultContent", "CreationTime"];
    const events = [];
    const subscription = await session.createSubscription2(often);
    const monitored = await subscription.monitor(
      { nodeId: "i=2253", attributeId: AttributeIds.EventNotifier }, // the server
      { queueSize: 100, filter: constructEventFilter(names.map((name) => `${index}:${name}`)) },
      TimestampsToReturn.Both,
    );
    monitored.on("changed", (fields) =>
      events.push(Object.fromEntries(names.map((name, number) => [name, fields[number].value]))),
    );

    await beating(session, id, async () => {
      assert.equal(await state("Automatic"), "Ready");
      await session.write(writing(id, { PartId: [DataType.String, "V-1"], TriggerSeq: [DataType.UInt16, 50] }));
      await until(() => events.length === 1);
      await session.write(writing(id, { ResultAckSeq: [DataType.UInt16, 50] }));
      await session.write(writing(id, { PartId: [DataType.String, "V-2"], TriggerSeq: [DataType.UInt16, 51] }));
      await until(() => events.length === 2);
    });

    assert.deepEqual(events.map((event) => event.PartId.id), ["V-1", "V-2"]);
    assert.deepEqual(events.map((event) => event.ResultState), [1, 1]); // both jobs were completed
    const verdicts = events.map((event) =>
      event.ResultContent.filter(({ key }) => key.name === "Outcome").map((pair) => pair.value.value),
    );
    assert.deepEqual(verdicts, [[1], [2]]); // one part is good
    assert.ok(events.every((event) => event.CreationTime instanceof Date && event.InternalRecipeId.id === "1"));
    assert.notEqual(events[0].ResultId.id, events[1].ResultId.id);

    const machine = "VisionSystem.VisionStateMachine";
    const called = await session.call({ objectId: id(machine), methodId: id(`${machine}.Halt`), inputArguments: [] });
    assert.equal(called.statusCode, StatusCodes.BadNotSupported);
    await subscription.terminate();
  }));
