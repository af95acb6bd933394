"""What a shop report is called and how its figures are written, in English and in Chinese.

The Chinese names are those of the seller tools that sellers know. Digits, currencies and days are written as
Babel's locales say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final, Literal

from babel.dates import format_date, format_interval, format_skeleton
from babel.numbers import format_currency, format_decimal, format_percent

from streams.adapters.shop_report import NO_CURRENCY, Cycle, Figure, Unit, Value

Lang = Literal["en", "zh"]

#: Sections, and the figures in each.
SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "visitors": ("visitors", "new_visitors", "returning_visitor_share", "favorites"),
    "conversion": ("conversion_to_favorite", "conversion_to_cart", "conversion_to_order"),
    "buyers": ("paying_buyers", "new_buyers", "old_buyers", "old_buyer_share"),
    "money": ("paid_amount", "amount_per_buyer", "refunded_amount"),
    "loss": (
        "sessions",
        "loss_rate",
        "bounced_rate",
        "browsed_rate",
        "favorited_rate",
        "carted_rate",
        "recovered",
        "value_at_risk",
        "leaked_amount",
    ),
}
#: More of these is worse; of those in ``_NEITHER`` it is neither good nor bad.
_WORSE: Final = frozenset(
    {"refunded_amount", "loss_rate", "bounced_rate", "browsed_rate", "favorited_rate", "carted_rate"}
    | {"value_at_risk", "leaked_amount"}
)
_NEITHER: Final = frozenset({"returning_visitor_share", "old_buyer_share", "new_buyers", "old_buyers"})
ROLES: Final = ("traffic", "profit", "potential", "edge", "unrated")

_ENGLISH: Final[dict[str, str]] = {
    "section visitors": "Visitors",
    "section conversion": "Conversion",
    "section buyers": "Buyers",
    "section money": "Money",
    "section loss": "Loss",
    "visitors": "visitors",
    "new_visitors": "new visitors",
    "returning_visitor_share": "returning visitors",
    "favorites": "favorites",
    "conversion_to_favorite": "to favorite",
    "conversion_to_cart": "to cart",
    "conversion_to_order": "to order",
    "paying_buyers": "paying buyers",
    "new_buyers": "new buyers",
    "old_buyers": "old buyers",
    "old_buyer_share": "old buyers, share",
    "paid_amount": "paid",
    "amount_per_buyer": "paid per buyer",
    "refunded_amount": "of it taken back",
    "sessions": "sessions",
    "loss_rate": "lost",
    "bounced_rate": "lost, bounced",
    "browsed_rate": "lost, browsed",
    "favorited_rate": "lost, favorited",
    "carted_rate": "lost, carted",
    "recovered": "recovered",
    "value_at_risk": "value at risk",
    "leaked_amount": "leaked",
    "converted": "converted",
    "bounced": "bounced",
    "browsed": "browsed",
    "favorited": "favorited",
    "carted": "carted",
    "role traffic": "traffic",
    "role profit": "profit",
    "role potential": "potential",
    "role edge": "edge",
    "role unrated": "unrated",
    "title": "Shop report",
    "figure": "figure",
    "cycle": "these days",
    "before": "before",
    "change": "change",
    "daily": "day by day",
    "with bots": "with bots",
    "items": "Items",
    "item": "item",
    "role": "role",
    "conversion": "bought",
    "revenue_per_visitor": "per visitor",
    "growth": "growth",
    "points": " pp",
    "span": "{cycle} ({days} days, {zone}), beside {before}",
    "not over": "These days are not over: the pipeline has all until {day}.",
    "nothing read": "The pipeline has read nothing yet.",
    "nothing here": "Nothing happened in these days. The shop's first day is {day}: try --until.",
    "roles": "of {count} items looked at or sold: ",
    "chart visitors": "Visitors a day",
    "chart paid": "Paid a day, {currency}",
    "chart sessions": "Sessions a day, and how they ended",
    "chart worth": "Items: visitors, and what one brings",
    "chart bought": "Items: visitors, and how many bought",
    "meaning": "What the figures mean",
    "made": "Made by Ebbtide.",
}
_CHINESE: Final[dict[str, str]] = {
    "section visitors": "访客",
    "section conversion": "转化",
    "section buyers": "买家",
    "section money": "金额",
    "section loss": "流失",
    "visitors": "访客数",
    "new_visitors": "新访客数",
    "returning_visitor_share": "回访客占比",
    "favorites": "收藏次数",
    "conversion_to_favorite": "收藏转化率",
    "conversion_to_cart": "加购转化率",
    "conversion_to_order": "支付转化率",
    "paying_buyers": "支付买家数",
    "new_buyers": "支付新买家数",
    "old_buyers": "支付老买家数",
    "old_buyer_share": "老买家占比",
    "paid_amount": "支付金额",
    "amount_per_buyer": "客单价",
    "refunded_amount": "退款金额",
    "sessions": "访问",
    "loss_rate": "流失率",
    "bounced_rate": "跳失率",
    "browsed_rate": "浏览流失率",
    "favorited_rate": "收藏流失率",
    "carted_rate": "加购流失率",
    "recovered": "挽回",
    "value_at_risk": "流失风险金额",
    "leaked_amount": "购买流失金额",
    "converted": "成交",
    "bounced": "跳失",
    "browsed": "浏览流失",
    "favorited": "收藏流失",
    "carted": "加购流失",
    "role traffic": "引流款",
    "role profit": "利润款",
    "role potential": "潜力款",
    "role edge": "边缘款",
    "role unrated": "未评级",
    "title": "店铺报告",
    "figure": "指标",
    "cycle": "本周期",
    "before": "上周期",
    "change": "变化",
    "daily": "每日",
    "with bots": "含机器人",
    "items": "商品",
    "item": "商品",
    "role": "类型",
    "conversion": "购买率",
    "revenue_per_visitor": "访客价值",
    "growth": "增长",
    "points": "个百分点",
    "span": "{cycle}（{days} 天，{zone}），对比 {before}",
    "not over": "本周期尚未结束：数据完整至 {day}。",
    "nothing read": "尚未读取任何数据。",
    "nothing here": "本周期没有数据。店铺首日为 {day}：请用 --until 指定。",
    "roles": "{count} 件被浏览或售出的商品：",
    "chart visitors": "每日访客数",
    "chart paid": "每日支付金额（{currency}）",
    "chart sessions": "每日访问及其结果",
    "chart worth": "商品：访客数与访客价值",
    "chart bought": "商品：访客数与购买率",
    "meaning": "指标说明",
    "made": "由 Ebbtide 生成。",
}

#: What each figure means, for the page: English, Chinese.
MEANINGS: Final[dict[str, tuple[str, str]]] = {
    "visitors": (
        "customers with a session that began in these days; bots are left out",
        "在本周期内开始过访问的顾客，不含机器人",
    ),
    "new_visitors": (
        "visitors with no session on the 6 days before their first day here",
        "首个访问日之前 6 天内没有访问的访客",
    ),
    "returning_visitor_share": ("all other visitors, as a share of all", "其余访客占全部访客的比例"),
    "favorites": ("items and the shop, added to favorites", "商品与店铺被加入收藏的次数"),
    "conversion_to_favorite": ("share of visitors who added a favorite", "加过收藏的访客占比"),
    "conversion_to_cart": ("share of visitors who used the cart", "用过购物车的访客占比"),
    "conversion_to_order": ("share of visitors who ordered in these days", "在本周期内下单的访客占比"),
    "paying_buyers": (
        "customers with an order of these days, whatever was taken back later",
        "在本周期内下单的顾客，不论之后是否退款",
    ),
    "new_buyers": ("buyers who are not old", "非老买家的买家"),
    "old_buyers": (
        "buyers who also ordered on the 365 days before their first order's day here",
        "首个下单日之前 365 天内买过的买家",
    ),
    "old_buyer_share": ("old buyers, as a share of paying buyers", "老买家占支付买家的比例"),
    "paid_amount": ("orders as ordered, not less later refunds", "按下单时的金额，不扣除之后的退款"),
    "amount_per_buyer": (
        "paid, divided by the buyers who paid in that currency",
        "支付金额除以该币种的支付买家数",
    ),
    "refunded_amount": (
        "cancelled or refunded since, of the orders of these days",
        "本周期订单之后被取消或退款的金额",
    ),
    "sessions": (
        "visits of one customer, ended by more than 30 minutes of silence unless set otherwise",
        "同一顾客的访问，默认静默超过 30 分钟即结束",
    ),
    "loss_rate": ("share of sessions that ended without an order", "没有成交的访问占比"),
    "bounced_rate": ("share of sessions: one page and nothing else", "只看一页便离开的访问占比"),
    "browsed_rate": (
        "share of sessions: lost without favorite or cart",
        "只浏览、未收藏未加购的流失访问占比",
    ),
    "favorited_rate": ("share of sessions: lost with a standing favorite", "仍有收藏的流失访问占比"),
    "carted_rate": ("share of sessions: lost with something in the cart", "购物车非空的流失访问占比"),
    "recovered": (
        "lost sessions whose customer ordered soon after, inside the recovery window",
        "流失后在挽回期内下单的访问数",
    ),
    "value_at_risk": ("carts that stood when lost sessions closed", "流失访问结束时购物车中的金额"),
    "leaked_amount": (
        "spent elsewhere by visitors who bought nothing here that day, on what they had looked at",
        "当天未在本店购买的访客，在别处购买同类商品的金额",
    ),
}


@dataclass(frozen=True, slots=True)
class Words:
    """A report's language."""

    lang: Lang

    @property
    def locale(self) -> str:
        """Babel's name of it."""
        return "zh_Hans_CN" if self.lang == "zh" else "en"

    @property
    def tag(self) -> str:
        """HTML's name of it."""
        return "zh-Hans" if self.lang == "zh" else "en"

    def __getitem__(self, name: str) -> str:
        return (_CHINESE if self.lang == "zh" else _ENGLISH)[name]

    def meaning(self, name: str) -> str:
        """What a figure means."""
        return MEANINGS[name][self.lang == "zh"]

    def label(self, figure: Figure, main: str | None) -> str:
        """The figure's name, with its currency if that is not the report's ``main`` one."""
        name = self[figure.name]
        return name if figure.currency in (None, main) else f"{name}, {figure.currency}"

    def value(self, value: Value, unit: Unit, currency: str | None) -> str:
        """A figure's value; a dash where there is none."""
        if value is None:
            return "–"
        if unit == "count":
            return format_decimal(value, locale=self.locale)
        if unit == "share":
            return format_percent(value, format="#,##0.0%", locale=self.locale)
        return self.money(Decimal(value), currency)

    def money(self, amount: Decimal, currency: str | None) -> str:
        """An amount, to the digits that its currency has."""
        if currency in (None, NO_CURRENCY):
            return format_decimal(amount, format="#,##0.00", locale=self.locale)
        return format_currency(amount, currency, locale=self.locale)

    def change(self, figure: Figure) -> str:
        """How it changed: with a sign, in percent, or in points of a percentage."""
        change = figure.change
        if change is None:
            return "–"
        points = format_decimal(abs(100 * change), format="#,##0.0", locale=self.locale)
        sign = "" if points.strip("0.") == "" else "+" if change > 0 else "−"
        return f"{sign}{points}{self['points'] if figure.unit == 'share' else '%'}"

    def day(self, day: date) -> str:
        """A day in words."""
        return format_date(day, "long", locale=self.locale)

    def tick(self, day: date) -> str:
        """A day below an axis."""
        return format_skeleton("MMMd", day, locale=self.locale)

    def span(self, cycle: Cycle) -> str:
        """A cycle's days in words."""
        if cycle.since == cycle.until:
            return self.day(cycle.since)
        return format_interval(cycle.since, cycle.until, skeleton="yMMMd", locale=self.locale)


def mood(figure: Figure) -> Literal["good", "bad", "same"]:
    """Whether its change is one for the better."""
    change = figure.change
    if not change or figure.name in _NEITHER or abs(change) < Decimal("0.0005"):
        return "same"
    return "good" if (change > 0) != (figure.name in _WORSE) else "bad"
