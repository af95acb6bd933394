"""Machines among the visitors: by name, over real user agents, and by behaviour, with people who look like it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import crawleruseragents
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain import crawlers
from streams.domain.crawlers import is_crawler
from streams.domain.events import Cart, Favorite, Input, Visit
from streams.domain.facts import BotSign
from streams.domain.policy import MINUTE, SECOND, Policy
from tests.domain.reference import sessions
from tests.domain.stories import deliver, make
from tests.domain.test_laws import Run, end_of, laws, ordered

# fmt: off
# ruff: noqa: E501
#: Browsers.
BROWSERS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36 OPR/110.0.0.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/126.0.6478.54 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/127.1 Mobile/15E148 Safari/605.1.15",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.6478.71 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Android 14; Mobile; rv:127.0) Gecko/127.0 Firefox/127.0",
    "Mozilla/5.0 (Linux; U; Android 13; zh-CN; V2241A Build/TP1A.220624.014) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/100.0.4896.58 UCBrowser/15.5.2.1202 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; U; Android 12; zh-cn; M2012K11AC Build/SKQ1.211006.001) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/98.0.4758.102 MQQBrowser/13.7 Mobile Safari/537.36 COVC/046501",
    "Mozilla/5.0 (Linux; U; Android 11; zh-cn; Redmi K30 Build/RKQ1.200826.002) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/100.0.4896.127 Mobile Safari/537.36 XiaoMi/MiuiBrowser/17.8.220115",
    "Mozilla/5.0 (Linux; Android 12; HarmonyOS; NOH-AN00; HMSCore 6.13.0.302) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0.4844.88 HuaweiBrowser/14.0.5.303 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 9; CUBOT_X19) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/92.0.4515.159 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 11; CUBOT KINGKONG 5 Pro Build/RP1A.200720.011; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/99.0.4844.88 Mobile Safari/537.36",
    "Opera/9.80 (Android; Opera Mini/36.2.2254/119.132; U; id) Presto/2.12.423 Version/12.16",
    "Mozilla/5.0 (SMART-TV; LINUX; Tizen 6.0) AppleWebKit/537.36 (KHTML, like Gecko) 76.0.3809.146/6.0 TV Safari/537.36",
    "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0.4606.128 Safari/537.36 WebAppManager",
    "Mozilla/5.0 (PlayStation; PlayStation 5/6.50) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36 Vivaldi/6.5.3206.42",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 YaBrowser/24.6.0 Yowser/2.5 Safari/537.36",
]

#: Browsers inside of apps, and shops' own apps.
APPS = [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/467.0.0.38.107;FBBV/604330437;FBDV/iPhone14,7;FBMD/iPhone;FBSN/iOS;FBSV/17.5.1;FBSS/3;FBCR/;FBID/phone;FBLC/en_US;FBOP/80]",
    "Mozilla/5.0 (Linux; Android 13; SM-S908B Build/TP1A.220624.014; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/125.0.6422.165 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/467.1.0.52.83;]",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 16_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Instagram 337.0.0.26.91 (iPhone10,4; iOS 16_7; en_GB; en; scale=2.00; 750x1334; 611893843)",
    "Mozilla/5.0 (Linux; Android 12; SM-A525F Build/SP1A.210812.016; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/125.0.6422.147 Mobile Safari/537.36 Instagram 335.0.0.39.93 Android (31/12; 420dpi; 1080x2175; samsung; SM-A525F; a52q; qcom; de_DE; 606833098)",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.49(0x18003137) NetType/WIFI Language/zh_CN",
    "Mozilla/5.0 (Linux; Android 13; 22041211AC Build/TP1A.220624.014; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/116.0.0.0 Mobile Safari/537.36 XWEB/1160117 MMWEBSDK/20240404 MMWEBID/5361 MicroMessenger/8.0.49.2600(0x2800313D) WeChat/arm64 Weixin NetType/4G Language/zh_CN ABI/arm64 MiniProgramEnv/android",
    "Mozilla/5.0 (Linux; U; Android 13; zh-CN; PGEM10 Build/TP1A.220905.001) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/100.0.4896.58 UWS/5.10.3.0 Mobile Safari/537.36 AliApp(TB/10.30.10) UCBS/2.11.1.1 TTID/600000@taobao_android_10.30.10 WindVane/8.5.0 1080X2293",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 AliApp(AP/10.5.30) AlipayClient/10.5.30 Language/zh-Hans",
    "Mozilla/5.0 (Linux; Android 12; JLN-AL00 Build/HUAWEIJLN-AL00; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/97.0.4692.98 Mobile Safari/537.36 T7/13.59 SP-engine/3.0.0 baiduboxapp/13.59.0.10 (Baidu; P1 12) NABar/1.0",
    "Mozilla/5.0 (Linux; Android 10; MI 9 Build/QKQ1.190825.002; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/83.0.4103.101 Mobile Safari/537.36 aweme_250000 JsSdk/1.0 NetType/WIFI AppName/aweme app_version/25.0.0 ByteLocale/zh-CN Region/CN",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 musical_ly_34.5.0 JsSdk/2.0 NetType/WIFI Channel/App Store ByteLocale/en Region/GB BytedanceWebview/d8a21c6",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Safari Line/13.20.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 16_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [Pinterest/iOS]",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) GSA/322.0.648915268 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Snapchat/12.90.0.42 (like Safari/8615.3.12.10.2, panda)",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/21D50 Twitter for iPhone/10.30.1",
    "Mozilla/5.0 (Linux; Android 13; Pixel 6 Build/TQ3A.230805.001; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/125.0.6422.113 Mobile Safari/537.36 LinkedInApp/4.1.930",
    "Mozilla/5.0 (Linux; Android 14; SM-G998B) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/126.0.0.0 Mobile DuckDuckGo/5 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 BingSapphire/1.0.410529013",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 16_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Weibo (iPhone12,1__weibo__13.1.1__iphone__os16.2)",
    "Taobao4iPhone/10.29.10 (iPhone; iOS 16.5; Scale/3.00)",
    "ShopApp/5.21.0 (com.example.shop; build:4711; iOS 17.4.1) Alamofire/5.9.1",
    "ShopApp/2041 CFNetwork/1494.0.7 Darwin/23.4.0",
    "Dalvik/2.1.0 (Linux; U; Android 13; SM-A536B Build/TP1A.220624.014)",
    "okhttp/4.12.0",
    "Dart/3.3 (dart:io)",
    "",
]

MACHINES = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.6422.175 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "Sogou web spider/4.0(+http://www.sogou.com/docs/help/webmasters.htm#07)",
    "Mozilla/5.0 (Windows NT 10.0; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/78.0.3904.108 Safari/537.36; 360Spider",
    "Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; Bytespider; spider-feedback@bytedance.com)",
    "Mozilla/5.0 (compatible; YisouSpider/5.0; +http://www.yisou.com/help/webmaster/)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)",
    "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "Twitterbot/1.0",
    "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "TelegramBot (like TwitterBot)",
    "WhatsApp/2.23.20.0",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    "Mozilla/5.0 (compatible; Pinterestbot/1.0; +http://www.pinterest.com/bot.html)",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.1.1 Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
    "Mozilla/5.0 (compatible; MJ12bot/v1.4.8; http://mj12bot.com/)",
    "Mozilla/5.0 (compatible; DotBot/1.2; +https://opensiteexplorer.org/dotbot; help@moz.com)",
    "Mozilla/5.0 (Linux; Android 7.0;) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; PetalBot;+https://webmaster.petalsearch.com/site/petalbot)",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_10_1) AppleWebKit/600.2.5 (KHTML, like Gecko) Version/8.0.2 Safari/600.2.5 (Amazonbot/0.1; +https://developer.amazon.com/support/amazonbot)",
    "CCBot/2.0 (https://commoncrawl.org/faq/)",
    "Mozilla/5.0 (compatible; archive.org_bot +http://archive.org/details/archive.org_bot)",
    "AdsBot-Google (+http://www.google.com/adsbot.html)",
    "Mediapartners-Google",
    "Mozilla/5.0 (X11; Linux x86_64; Storebot-Google/1.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/79.0.3945.88 Safari/537.36",
    "Mozilla/5.0 (compatible; Google-InspectionTool/1.0;)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/126.0.6478.55 Safari/537.36",
    "Mozilla/5.0 (Unknown; Linux x86_64) AppleWebKit/538.1 (KHTML, like Gecko) PhantomJS/2.1.1 Safari/538.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/109.0.0.0 Safari/537.36 Chrome-Lighthouse",
    "Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
    "Mozilla/5.0 (compatible; proximic; +https://www.comscore.com/Web-Crawler)",
    "Scrapy/2.11.2 (+https://scrapy.org)",
    "python-requests/2.32.3",
    "Python/3.11 aiohttp/3.9.5",
    "python-httpx/0.27.0",
    "curl/8.7.1",
    "Wget/1.21.4",
    "Go-http-client/1.1",
    "Java/17.0.11",
    "Apache-HttpClient/4.5.14 (Java/17.0.11)",
    "axios/1.7.2",
    "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
    "libwww-perl/6.67",
    "GuzzleHttp/7",
    "PostmanRuntime/7.39.0",
    "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
    "Mozilla/5.0 (compatible; Qwantify/1.0; +https://help.qwant.com/bot/)",
    "ia_archiver (+http://www.alexa.com/site/help/webmasters; crawler@alexa.com)",
    "W3C_Validator/1.3 http://validator.w3.org/services",
    "Mozilla/5.0 (compatible; DataForSeoBot/1.0; +https://dataforseo.com/dataforseo-bot)",
    "Mozilla/5.0 (compatible; BLEXBot/1.0; +http://webmeup-crawler.com/)",
    "Mozilla/5.0 (compatible; SeznamBot/4.0; +http://napoveda.seznam.cz/seznambot-intro/)",
    "DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)",
    "Mozilla/5.0 (compatible; coccocbot-web/1.0; +http://help.coccoc.com/searchengine)",
    "GoogleOther",
]
# fmt: on

#: Machines that the list does not know: a miss costs less than a person taken for a machine.
MISSED = {"Java/17.0.11", "GuzzleHttp/7", "PostmanRuntime/7.39.0"}


@pytest.mark.parametrize("agent", [*BROWSERS, *APPS])
def test_a_person_is_not_taken_for_a_machine(agent: str) -> None:
    assert not is_crawler(agent)


@pytest.mark.parametrize("agent", MACHINES)
def test_a_machine_that_says_its_name_is_known(agent: str) -> None:
    assert is_crawler(agent) is (agent not in MISSED)


def test_the_fast_search_finds_what_the_list_does_in_each_of_its_own_examples() -> None:
    examples = [agent for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA for agent in entry["instances"]]
    # Cut and grown, so that what is anchored or only nearly there is met too.
    chance = random.Random(1)
    examples += [agent[chance.randrange(8) : -1 - chance.randrange(8)] for agent in examples]
    examples += [f"x{agent}" for agent in examples[::7]]
    differ = [agent for agent in examples if is_crawler(agent) != crawleruseragents.is_crawler(agent)]
    assert len(examples) > 4_000
    assert [agent for agent in differ if "okhttp" not in agent] == []


def test_no_more_names_are_remembered_than_the_bound() -> None:
    info = is_crawler.cache_info()
    assert info.maxsize == crawlers._REMEMBERED
    is_crawler("Mozilla/5.0 (a name nobody else has)")
    before = is_crawler.cache_info().hits
    assert not is_crawler("Mozilla/5.0 (a name nobody else has)")
    assert is_crawler.cache_info().hits == before + 1


START = 10**9
AGENT = BROWSERS[0]


def looks(count: int, step: float, agent: str | None = AGENT) -> list[Input]:
    """``count`` looks, one every ``step`` ms."""
    return [make(START + round(n * step), f"v{n}", Visit, user_agent=agent) for n in range(count)]


def sign_of(events: Sequence[Input], policy: Policy = Policy()) -> BotSign | None:  # noqa: B008
    """What the only session of the events says that gave a bot away."""
    run = Run(replace(policy, buyers=False, losses=False))
    run.step(deliver(events), -1)
    run.settle(max(event.t for event in events) + policy.gap + 1)
    [row] = run.rows()
    assert row["is_bot"] is (row["bot_by"] is not None)
    sign: BotSign | None = row["bot_by"]
    return sign


def test_the_surest_sign_is_the_one_that_is_told() -> None:
    crawler = MACHINES[0]
    fast = looks(60, 10)
    assert sign_of(fast) == "no_dwell"
    assert sign_of([*fast, make(START, "a", Visit, user_agent=crawler)]) == "user_agent"
    told = make(START, "b", Visit, is_bot=True)
    assert sign_of([*fast, make(START, "a", Visit, user_agent=crawler), told]) == "told"


def test_one_event_by_a_crawlers_name_makes_the_session_a_machines_wherever_it_stands() -> None:
    for place in (0, 1, 2):
        events = looks(3, MINUTE)
        events[place] = make(
            START + place * MINUTE, "x", Favorite, action="add", item_id="i", user_agent=MACHINES[0]
        )
        assert sign_of(events) == "user_agent"


#: People: what they do, as (looks, ms from one to the next).
HASTY = {
    "30 clicks in a minute": (30, 2 * SECOND),
    "a gallery, a picture a second, for a minute": (60, SECOND),
    "a gallery where each page is told twice": (48, 300),
    "as fast as one can click, for a quarter of a minute": (49, 250),
    "a hundred pages in two minutes": (100, 1_200),
    "300 in five minutes": (300, SECOND),
    "a long evening, a page every five seconds": (700, 5 * SECOND),
    "one look": (1, 0),
}
#: Machines.
TIRELESS = {
    "all at once": (50, 0, "no_dwell"),
    "five a second": (50, 200, "no_dwell"),
    "two a second, until it has all": (310, 500, "rate"),
    "more than one a second, for ten minutes": (620, 960, "rate"),
}


@pytest.mark.parametrize(("count", "step"), HASTY.values(), ids=HASTY)
def test_a_hasty_person_is_a_person(count: int, step: float) -> None:
    assert sign_of(looks(count, step)) is None


@pytest.mark.parametrize(("count", "step", "sign"), TIRELESS.values(), ids=TIRELESS)
def test_what_no_person_keeps_up_is_a_machines(count: int, step: float, sign: str) -> None:
    assert sign_of(looks(count, step)) == sign


def test_a_cart_sent_over_at_log_in_is_nobodys_haste() -> None:
    lines = [make(START + 1, f"c{n}", Cart, action="set", item_id=f"i{n}") for n in range(80)]
    assert sign_of([*looks(5, 10 * SECOND), *lines]) is None


def test_a_burst_in_a_session_that_goes_on_is_no_sign() -> None:
    burst = looks(60, 200)
    assert sign_of(burst) == "no_dwell"
    assert sign_of([*burst, make(START + MINUTE, "later", Visit)]) is None


SMALL = Policy(bot_events=3, bot_dwell=40, bot_rate=1, buyers=False, losses=False)
signs: Counter[str | None] = Counter()


@laws
@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.sampled_from([0, 1, 2, 3]), st.sampled_from([0, 50, MINUTE])),
        max_size=9,
    ),
    st.randoms(use_true_random=False),
)
def _the_sign_is_that_of_the_definition(steps: list[tuple[int, int, int]], chance: random.Random) -> None:
    t = START
    events = [make(t, "e", Visit, user_agent=AGENT)]
    for number, (kind, small, pause) in enumerate(steps):
        t += small * 20 + pause
        agent = MACHINES[0] if kind == 7 and small == 0 else AGENT
        if kind == 6:
            events.append(make(t, f"e{number}", Cart, action="clear", user_agent=agent, is_bot=small == 3))
        else:
            events.append(make(t, f"e{number}", Visit, user_agent=agent))
    chance.shuffle(events)
    run = Run(SMALL)
    waiting = deliver(events)
    while waiting:
        size = chance.randint(1, len(waiting))
        run.step(waiting[:size], -1)
        waiting = waiting[size:]
    run.settle(end_of(events))
    rows = run.rows()
    assert ordered(rows) == ordered(sessions(events, SMALL))
    signs.update(row["bot_by"] for row in rows)


def test_whatever_the_order_of_arrival_the_sign_is_that_of_the_definition() -> None:
    """And each of the signs is met, and none."""
    signs.clear()
    _the_sign_is_that_of_the_definition()
    assert {None, "told", "user_agent", "no_dwell", "rate"} == signs.keys()
    assert min(signs.values()) >= 3
