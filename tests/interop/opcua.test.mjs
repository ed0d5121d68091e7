// The station's OPC UA server as an independent client sees it: node-opcua. test_opcua_node.py starts the server.
// usage: node opcua.test.mjs URL FOLDER    FOLDER holds the certificates, INSPECTOR_NODE_MODULES node-opcua

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";

const require = createRequire(join(process.env.INSPECTOR_NODE_MODULES, "..", "package.json"));
const {
  AttributeIds, DataType, MessageSecurityMode, OPCUACertificateManager, OPCUAClient, SecurityPolicy, StatusCodes,
  TimestampsToReturn, UserTokenType, makeBrowsePath,
} = require("node-opcua");

const [url, folder] = process.argv.slice(2);
const password = "correct horse battery";
const namespace = "urn:inspector:station";

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
    const codes = await session.write(writing(id, { TriggerSeq: [DataType.UInt16, 1], Enable: [DataType.Boolean, true] }));
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
    const seen = {};
    const subscription = await session.createSubscription2({
      requestedPublishingInterval: 10, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 10, publishingEnabled: true,
    });
    subscription.on("raw_notification", (notification) => {
      for (const data of notification.notificationData)
        for (const item of data.monitoredItems ?? []) seen[handles.get(item.clientHandle)] = item.value.value.value;
      results.push({ ...seen });
    });
    const items = names.map((name) => ({ nodeId: id(`Station.${name}`), attributeId: AttributeIds.Value }));
    const handles = new Map();
    const group = await subscription.monitorItems(items, { samplingInterval: 0, queueSize: 1 }, TimestampsToReturn.Both);
    group.monitoredItems.forEach((item, number) => handles.set(item.monitoringParameters.clientHandle, names[number]));

    // what a PLC says first is where it stands
    await session.write(writing(id, { Enable: [DataType.Boolean, true], Heartbeat: [DataType.UInt16, 1] }));
    const part = { PartId: [DataType.String, "W-1"], Encoder: [DataType.UInt32, 70000], DeadlineMs: [DataType.UInt16, 300] };
    for (const [name, typed] of Object.entries({ ...part, TriggerSeq: [DataType.UInt16, 41] }))
      assert.deepEqual(await session.write(writing(id, { [name]: typed })), [StatusCodes.Good]);
    await until(() => results.at(-1)?.ResultSeq === 41);

    await session.write(writing(id, { ...part, TriggerSeq: [DataType.UInt16, 42], PartId: [DataType.String, "W-2"] }));
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

    const shown = results.filter((result) => result.ResultSeq && result.ResultValid);
    assert.deepEqual([...new Set(shown.map((result) => `${result.ResultSeq} ${result.PartId}`))], ["41 W-1", "42 W-2", "43 W-3"]);
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
