"""The OPC UA server over a real socket, with asyncua's own client."""

import asyncio
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("asyncua", reason="asyncua is not installed: pip install -e '.[opcua]'")

from asyncua import Client, ua
from asyncua.ua.uaerrors import (
    BadCertificateUntrusted,
    BadIdentityTokenRejected,
    BadInvalidArgument,
    BadServiceUnsupported,
    BadSessionIdInvalid,
    BadSubscriptionIdInvalid,
    BadUserAccessDenied,
    UaStatusCodeError,
)

from inspector.plc import Command, Outcome, PlcInputs, PlcOutputs, PlcPortError, Reason, StatusBit
from inspector.plc.opcua import OpcUaServer
from inspector.plc.opcua_variables import INPUTS, OUTPUTS, RESULT

from .opcua_site import PASSWORD, Site, node, write

GOOD = ["Good"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys take their time to make."""
    folder = tmp_path_factory.mktemp("files")
    Site(folder).make_files()
    return folder


@pytest.fixture
def prepared(files: Path, tmp_path: Path) -> Site:
    """A site that does not serve yet, with files of its own."""
    return Site(shutil.copytree(files, tmp_path / "site"))


@pytest.fixture(scope="module")
def serving(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for the whole module: it takes two seconds to start."""
    site = Site(shutil.copytree(files, tmp_path_factory.mktemp("serving") / "site"))
    with site.serving(site.settings(anonymous=True)):
        yield site


@pytest.fixture
def site(serving: Site) -> Site:
    serving.heard.clear()
    serving.outputs = PlcOutputs()
    return serving


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.002)


def names(codes: list[ua.StatusCode]) -> list[str]:
    return [code.name for code in codes]


def result(number: int) -> PlcOutputs:
    """A result whose every field tells which one it is."""
    outcome = Outcome.OK if number % 2 else Outcome.NG
    return PlcOutputs(
        status=StatusBit.RESULT_VALID | (StatusBit.OK if number % 2 else StatusBit.NG),
        result_seq=number,
        outcome=outcome,
        reason=Reason.NONE if number % 2 else Reason.OVER_THRESHOLD,
        score=float(number),
        inspection_ms=number,
        part_id=f"P-{number}",
        encoder=number,
    )


def assert_of_one_result(values: dict[str, object]) -> None:
    number = values["ResultSeq"]
    assert isinstance(number, int)
    good = bool(number % 2)
    assert (values["Ok"], values["Ng"]) == (good, not good)
    assert (values["Outcome"], values["OutcomeInverse"]) == ((1, 0xFFFE) if good else (2, 0xFFFD))
    assert values["ReasonText"] == ("" if good else "over threshold")
    assert (values["PartId"], values["Encoder"], values["Score"]) == (f"P-{number}", number, float(number))


def test_everything_is_read_by_name(site: Site) -> None:
    site.outputs = result(3)

    async def main() -> None:
        async with site.connected() as client:
            nodes = [await node(client, f"Station.{name}") for name in OUTPUTS]
            await until_shown(client, 3)
            values = dict(zip(OUTPUTS, await client.read_values(nodes), strict=True))
            assert_of_one_result(values)
            assert values["ResultValid"]
            assert values["MapVersion"] == 0x0100
            kinds = [await each.read_data_type_as_variant_type() for each in nodes]
            assert [kind.name for kind in kinds] == list(OUTPUTS.values())
            plc = [
                await (await node(client, f"Station.Plc.{name}")).read_data_type_as_variant_type() for name in INPUTS
            ]
            assert [kind.name for kind in plc] == list(INPUTS.values())

    asyncio.run(main())


async def until_shown(client: Client, number: int) -> None:
    sequence = await node(client, "Station.ResultSeq")
    async with asyncio.timeout(10):
        while await sequence.read_value() != number:
            pass


def test_whoever_reads_while_results_come_sees_one_of_them(site: Site) -> None:
    site.outputs = result(1)

    async def main() -> None:
        async with site.connected() as client:
            nodes = [await node(client, f"Station.{name}") for name in RESULT]
            await until_shown(client, 1)
            for number in range(2, 60):
                site.outputs = result(number)
                read = await client.read_attributes(nodes)
                assert_of_one_result({name: each.Value.Value for name, each in zip(RESULT, read, strict=True)})
                assert len({each.SourceTimestamp for each in read}) == 1

    asyncio.run(main())


@pytest.mark.parametrize("period_ms", [0, 50])
def test_whoever_subscribes_gets_all_of_a_result_together(site: Site, period_ms: int) -> None:
    site.outputs = result(1)
    published: list[dict[str, object]] = []

    async def main() -> None:
        async with site.connected() as client:
            nodes = {name: await node(client, f"Station.{name}") for name in OUTPUTS if name in RESULT}
            await until_shown(client, 1)
            handles = {}
            seen: dict[str, object] = {}

            def publish(answer: ua.PublishResult) -> None:
                for notification in answer.NotificationMessage.NotificationData or []:
                    for item in notification.MonitoredItems:
                        seen[handles[item.ClientHandle]] = item.Value.Value.Value
                        published_order.append(handles[item.ClientHandle])
                    published.append(dict(seen))

            published_order: list[str] = []
            subscription = await client.uaclient.create_subscription(
                ua.CreateSubscriptionParameters(
                    RequestedPublishingInterval=float(period_ms), RequestedLifetimeCount=10000,
                    RequestedMaxKeepAliveCount=100, PublishingEnabled=True,
                ),
                publish,
            )  # fmt: skip
            items = []
            for number, (name, each) in enumerate(nodes.items()):
                handles[number] = name
                items.append(
                    ua.MonitoredItemCreateRequest(
                        ItemToMonitor=ua.ReadValueId(each.nodeid, ua.AttributeIds.Value),
                        MonitoringMode=ua.MonitoringMode.Reporting,
                        RequestedParameters=ua.MonitoringParameters(ClientHandle=number, QueueSize=1),
                    )
                )
            await client.uaclient.create_monitored_items(
                ua.CreateMonitoredItemsParameters(
                    SubscriptionId=subscription.SubscriptionId,
                    TimestampsToReturn=ua.TimestampsToReturn.Both,
                    ItemsToCreate=items,
                )
            )
            await until(lambda: len(published) == 1)
            published_order.clear()
            for number in range(2, 12):
                site.outputs = result(number)
                await until(lambda: published[-1]["ResultSeq"] == number)  # noqa: B023
            assert published_order[-1] == "ResultSeq"

    asyncio.run(main())
    for values in published:
        assert_of_one_result(values)


def test_a_part_that_is_written_one_by_one_is_one_trigger(site: Site) -> None:
    async def main() -> None:
        async with site.connected("friend", "plc") as client:
            for name, value in {"PartId": "P-8", "Encoder": 70_000, "DeadlineMs": 300, "TriggerSeq": 5}.items():
                assert names(await write(client, **{name: value})) == GOOD
            await until(lambda: len(site.heard) == 4)

    asyncio.run(main())
    assert [inputs.trigger_seq == site.heard[-1].trigger_seq for inputs in site.heard] == [False] * 3 + [True]
    last = site.heard[-1]
    assert (last.part_id, last.encoder, last.deadline_ms, last.trigger_seq) == ("P-8", 70_000, 300, 5)


def test_a_part_that_is_written_in_one_call_is_one_trigger_whatever_the_order(site: Site) -> None:
    async def main() -> None:
        async with site.connected("friend", "plc") as client:
            codes = await write(
                client, TriggerSeq=6, Enable=True, Stop=False, Heartbeat=9, PartId="P-9", Encoder=1, DeadlineMs=2,
                ResultAckSeq=3, RecipeRequest=4, RecipeRequestSeq=5, ErrorReset=False, Abort=False, CounterReset=False,
            )  # fmt: skip
            assert names(codes) == GOOD * len(INPUTS)
            await until(lambda: bool(site.heard))
            assert await (await node(client, "Station.Plc.TriggerSeq")).read_value() == 6

    asyncio.run(main())
    assert site.heard == [PlcInputs(Command.ENABLE, 9, 6, 3, 4, 5, "P-9", 1, 2)]


def test_one_bad_value_keeps_the_rest_of_its_write_from_being_taken(site: Site) -> None:
    async def main() -> None:
        async with site.connected("friend", "plc") as client:
            codes = await write(client, PartId="x" * 21, TriggerSeq=7)
            assert names(codes) == ["BadOutOfRange", "BadInvalidState"]
            trigger = await node(client, "Station.Plc.TriggerSeq")
            assert await trigger.read_value() != 7
            for wrong in (ua.Variant(7, ua.VariantType.Int32), ua.Variant([7], ua.VariantType.UInt16), ua.Variant()):
                with pytest.raises(UaStatusCodeError, match="BadTypeMismatch"):
                    await trigger.write_value(ua.DataValue(wrong))
            doubtful = ua.DataValue(ua.Variant(7, ua.VariantType.UInt16), ua.StatusCode(ua.StatusCodes.Bad))
            with pytest.raises(UaStatusCodeError, match="BadWriteNotSupported"):
                await trigger.write_value(doubtful)

    asyncio.run(main())
    assert site.heard == []


def test_the_method_triggers_and_counts_on_from_what_was_written(site: Site) -> None:
    async def main() -> None:
        async with site.connected("friend", "plc") as client:
            await write(client, Enable=True, TriggerSeq=65534)
            assert [await trigger(client, f"P-{number}") for number in range(2)] == [65535, 1]
            await until(lambda: len(site.heard) == 3)
            assert await (await node(client, "Station.Plc.PartId")).read_value() == "P-1"

    asyncio.run(main())
    assert [(inputs.trigger_seq, inputs.part_id, inputs.command) for inputs in site.heard[1:]] == [
        (65535, "P-0", Command.ENABLE),
        (1, "P-1", Command.ENABLE),
    ]


async def trigger(client: Client, part_id: object) -> object:
    return await (await node(client, "Station")).call_method(
        await node(client, "Station.Trigger"),
        ua.Variant(part_id),
        ua.Variant(70_000, ua.VariantType.UInt32),
        ua.Variant(300, ua.VariantType.UInt16),
    )


async def acknowledge(client: Client, *sequence: int) -> None:
    arguments = [ua.Variant(number, ua.VariantType.UInt16) for number in sequence]
    await (await node(client, "Station")).call_method(await node(client, "Station.Acknowledge"), *arguments)


def test_the_method_acknowledges_the_result_that_is_shown_and_no_other(site: Site) -> None:
    site.outputs = result(8)

    async def main() -> None:
        async with site.connected("friend", "plc") as client:
            await until_shown(client, 8)
            for wrong in ([7], [0], [], [8, 8]):
                with pytest.raises(
                    UaStatusCodeError, match=r"BadInvalidArgument|BadArgumentsMissing|BadTooManyArgument"
                ):
                    await acknowledge(client, *wrong)
            await acknowledge(client, 8)
            await until(lambda: bool(site.heard))

    asyncio.run(main())
    assert [inputs.result_ack_seq for inputs in site.heard] == [8]


@pytest.mark.parametrize("part_id", [7, "x" * 21, b"P"])
def test_a_wrong_argument_triggers_nothing(site: Site, part_id: object) -> None:
    async def main() -> None:
        async with site.connected("friend", "plc") as client:
            with pytest.raises(BadInvalidArgument):
                await trigger(client, part_id)

    asyncio.run(main())
    assert site.heard == []


@pytest.mark.parametrize("who", [(None, None), ("friend", "observer"), ("friend", None)])
def test_observers_read_and_nothing_else(site: Site, who: tuple[str | None, str | None]) -> None:
    async def main() -> None:
        async with site.connected(*who) as client:
            assert await (await node(client, "Station.Ready")).read_value() is False
            assert names(await write(client, TriggerSeq=9, ErrorReset=True)) == ["BadUserAccessDenied"] * 2
            with pytest.raises(BadUserAccessDenied):
                await trigger(client, "P-1")
            with pytest.raises(UaStatusCodeError):
                await client.nodes.objects.add_object(2, "Mine")
            with suppress(UaStatusCodeError):  # the client of asyncua does not look at the codes
                await client.delete_nodes([await node(client, "Station.Plc.TriggerSeq")])
            assert await (await node(client, "Station.Plc.TriggerSeq")).read_value() is not None

    asyncio.run(main())
    assert site.heard == []


def test_maintenance_resets_and_does_not_trigger(site: Site) -> None:
    async def main() -> None:
        async with site.connected("friend", "maintenance") as client:
            assert names(await write(client, ErrorReset=True, CounterReset=True)) == GOOD * 2
            assert names(await write(client, Enable=True)) == ["BadUserAccessDenied"]
            assert names(await write(client, ErrorReset=False, CounterReset=False)) == GOOD * 2
            with pytest.raises(BadUserAccessDenied):
                await trigger(client, "P-1")
            await until(lambda: len(site.heard) == 2)

    asyncio.run(main())
    assert Command.ERROR_RESET | Command.COUNTER_RESET in site.heard[0].command


def test_the_stations_own_variables_and_attributes_cannot_be_written(site: Site) -> None:
    async def main() -> None:
        async with site.connected("friend", "plc") as client:
            for path in ("Station.Ok", "Station", "Station.Trigger"):
                with pytest.raises(UaStatusCodeError, match="BadNotWritable"):
                    await (await node(client, path)).write_value(ua.DataValue(ua.Variant(True)))
            own = await node(client, "Station.Plc.Enable")
            with pytest.raises(UaStatusCodeError, match="BadWriteNotSupported"):
                await own.write_attribute(ua.AttributeIds.DisplayName, ua.DataValue(ua.LocalizedText("x")))
            with pytest.raises(UaStatusCodeError, match="BadNodeIdUnknown"):
                await (await node(client, "Station.Plc.Nothing")).write_value(ua.DataValue(ua.Variant(True)))
            assert await client.nodes.server.read_browse_name()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("who", "refusal"),
    [
        (("friend", "plc", "a wrong password"), BadUserAccessDenied),
        (("friend", "nobody"), BadUserAccessDenied),
        (("stranger", "plc"), BadCertificateUntrusted),
        (("stranger", None), BadCertificateUntrusted),
        ((None, "plc"), BadIdentityTokenRejected),  # a password in the clear
    ],
)
def test_who_is_not_known_is_not_let_in(
    site: Site, who: tuple[str | None, str | None], refusal: type[Exception]
) -> None:
    async def main() -> None:
        with pytest.raises(refusal):
            async with site.connected(*who):
                pass

    asyncio.run(main())


def test_a_certificate_is_trusted_by_moving_its_file_without_a_restart(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.make_client("newcomer")
    trusted = site.folder / "trusted"

    async def connects() -> bool:
        try:
            async with site.connected("newcomer", "plc"):
                return True
        except BadCertificateUntrusted:
            return False

    caplog.clear()
    assert not asyncio.run(connects())
    [message] = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert "urn:test:newcomer" in message
    move, kept, to = message.rpartition(": ")[2].split()
    assert (move, Path(to), Path(kept).parent) == ("mv", trusted, trusted / "refused")
    moved = Path(kept).rename(trusted / Path(kept).name)
    try:
        assert asyncio.run(connects())
    finally:
        moved.unlink()
    assert not asyncio.run(connects())


def test_a_stranger_who_names_a_trusted_certificate_is_still_one(site: Site) -> None:
    class Forger(Client):
        async def create_session(self) -> ua.CreateSessionResult:
            sent = self.uaclient.create_session

            async def forged(parameters: ua.CreateSessionParameters) -> ua.CreateSessionResult:
                parameters.ClientCertificate = (site.folder / "trusted" / "friend.pem").read_bytes()
                return await sent(parameters)

            self.uaclient.create_session = forged  # type: ignore[method-assign]
            return await super().create_session()

    async def main() -> None:
        client = Forger(site.url)
        client.set_user("plc")
        client.set_password(PASSWORD)
        await site.encrypt(client, "stranger")
        with pytest.raises(BadCertificateUntrusted):
            await client.connect()

    asyncio.run(main())


def test_nobody_takes_over_a_session_by_its_number(site: Site) -> None:
    async def main() -> None:
        async with site.connected("friend", "plc") as plc:
            await write(plc, Enable=True)
            thief = Client(site.url)
            await thief.connect_socket()
            await thief.send_hello()
            await thief.open_secure_channel()
            thief.uaclient.session.restore_authentication_token(plc.uaclient.session.authentication_token)
            with pytest.raises(BadSessionIdInvalid):
                await thief.activate_session(username="plc", password="a wrong password")  # noqa: S106
            with pytest.raises(BadUserAccessDenied):
                await thief.uaclient.write(ua.WriteParameters())
            thief.disconnect_socket()
            assert names(await write(plc, Enable=False)) == GOOD

    asyncio.run(main())


def test_nobody_touches_the_subscriptions_of_others(site: Site) -> None:
    async def main() -> None:
        async with site.connected("friend", "plc") as plc, site.connected() as other:
            subscription = await plc.create_subscription(100, Ignore())
            item = await subscription.subscribe_data_change(await node(plc, "Station.Outcome"))
            number = subscription.subscription_id
            own = other.uaclient
            for attempt in (
                own.delete_monitored_items(ua.DeleteMonitoredItemsParameters(number, [item])),
                own.delete_subscriptions([number]),
                own.set_monitoring_mode(ua.SetMonitoringModeParameters(number, ua.MonitoringMode.Disabled, [item])),
                own.set_publishing_mode(ua.SetPublishingModeParameters(False, [number])),
                own.create_monitored_items(ua.CreateMonitoredItemsParameters(number)),
                own.modify_monitored_items(ua.ModifyMonitoredItemsParameters(number)),
            ):
                with pytest.raises(BadSubscriptionIdInvalid):
                    await attempt
            [moved] = await own.transfer_subscriptions(ua.TransferSubscriptionsParameters([number], True))
            assert moved.StatusCode.name == "BadSubscriptionIdInvalid"
            await subscription.delete()

    asyncio.run(main())


def test_what_cannot_be_published_again_is_not_asked_for_again(site: Site) -> None:
    async def main() -> None:
        async with site.connected() as client:
            subscription = await client.create_subscription(100, Ignore())
            request = ua.RepublishRequest(
                Parameters=ua.RepublishParameters(subscription.subscription_id, RetransmitSequenceNumber=99)
            )
            with pytest.raises(UaStatusCodeError, match="BadMessageNotAvailable"):
                await client.uaclient._send_request(request)

    asyncio.run(main())


class Ignore:
    def datachange_notification(self, node: object, value: object, data: object) -> None:
        """Nothing to do."""


def test_nobody_registers_another_server_here(site: Site) -> None:
    async def main() -> None:
        async with site.connected() as client:
            with pytest.raises(BadServiceUnsupported):
                await client.uaclient.register_server(ua.RegisteredServer(ServerUri="urn:evil"))

    asyncio.run(main())


def test_the_endpoints_are_what_the_settings_say(site: Site) -> None:
    async def endpoints() -> list[ua.EndpointDescription]:
        return await site.client().connect_and_get_server_endpoints()

    found = {point.SecurityPolicyUri.rpartition("#")[2]: point for point in asyncio.run(endpoints())}
    assert found.keys() == {"None", "Basic256Sha256"}
    assert found["Basic256Sha256"].SecurityMode is ua.MessageSecurityMode.SignAndEncrypt
    assert [token.TokenType for token in found["None"].UserIdentityTokens] == [ua.UserTokenType.Anonymous]


def test_without_anonymous_nobody_gets_in_unencrypted_and_a_first_trigger_counts(prepared: Site) -> None:
    site = prepared

    async def main() -> None:
        [point] = await site.client().connect_and_get_server_endpoints()
        assert point.SecurityMode is ua.MessageSecurityMode.SignAndEncrypt
        client = site.client()
        await client.connect_socket()
        await client.send_hello()
        await client.open_secure_channel()  # asyncua lets it be, for whoever asks for the endpoints
        await client.uaclient.create_session(ua.CreateSessionParameters(EndpointUrl=site.url))
        with pytest.raises(UaStatusCodeError, match="BadIdentityTokenRejected"):
            await client.uaclient.activate_session(
                ua.ActivateSessionParameters(UserIdentityToken=ua.AnonymousIdentityToken())
            )
        with pytest.raises(UaStatusCodeError, match=r"BadSessionNotActivated|BadUserAccessDenied"):
            await client.nodes.server.read_browse_name()
        client.disconnect_socket()
        async with site.connected("friend", "observer") as observer:
            assert await (await node(observer, "Station.Ready")).read_value() is False
        with pytest.raises(UaStatusCodeError):
            async with site.connected("friend"):
                pass
        async with site.connected("friend", "plc") as plc:  # nobody has said before where the PLC stands
            await trigger(plc, "P-1")
            await until(lambda: len(site.heard) == 2)

    with site.serving(site.settings()):
        asyncio.run(main())
    assert [inputs.trigger_seq for inputs in site.heard] == [0, 1]


def test_an_error_of_the_stations_own_ends_the_serving(tmp_path: Path) -> None:
    site = Site(tmp_path)
    broken = threading.Event()

    def outputs() -> PlcOutputs:
        if broken.is_set():
            raise ZeroDivisionError
        return PlcOutputs()

    async def main() -> None:
        settings = site.settings(anonymous=True, certificate=None, private_key=None, trusted=None, users=None)
        async with OpcUaServer("127.0.0.1", site.port, site.heard.append, outputs, settings).serving():
            broken.set()
            await asyncio.sleep(10)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "own.key.pem").unlink(), "own.key.pem.*inspector plc certificate"),
        (lambda folder: (folder / "own.der").write_bytes(b"nothing"), "plc.opcua.certificate"),
        (lambda folder: (folder / "own.der").write_bytes((folder / "friend.pem").read_bytes()), "is not the key of"),
        (lambda folder: (folder / "trusted" / "a.der").write_bytes(b"nothing"), "a.der is no certificate"),
        (lambda folder: (folder / "users").write_text("plc:plc:plain:secret"), "line 1 is no"),
        (lambda folder: (folder / "users").unlink(), "plc.opcua.users"),
    ],
)
def test_it_does_not_start_with_a_file_that_is_wrong(
    prepared: Site, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(prepared.folder)
    with pytest.raises(PlcPortError, match=message):
        asyncio.run(start(prepared))


async def start(site: Site, **others: object) -> None:
    async with OpcUaServer("127.0.0.1", site.port, print, PlcOutputs, site.settings(**others)).serving():
        pass


def test_a_certificate_of_another_application_is_named(prepared: Site) -> None:
    with pytest.raises(PlcPortError, match=r"urn:test:inspector, not of urn:other: set plc.opcua.application_uri"):
        asyncio.run(start(prepared, application_uri="urn:other"))


def test_a_folder_without_the_standard_is_named(prepared: Site) -> None:
    with pytest.raises(
        PlcPortError, match=r"MachineVision.NodeSet2.xml is not there: correct plc.opcua.machine_vision"
    ):
        asyncio.run(start(prepared, machine_vision="."))


def test_a_port_that_is_taken_is_named(prepared: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        prepared.port = taken.getsockname()[1]
        with pytest.raises(PlcPortError, match=f"127.0.0.1:{prepared.port}.*plc.port"):
            asyncio.run(start(prepared))
